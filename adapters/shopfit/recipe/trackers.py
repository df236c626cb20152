"""The experiment trackers as data: what a recipe may name, and what must be installed for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]


@dataclass(frozen=True, slots=True)
class TrackerRules:
    """What a tracker needs.

    Args:
        title: as texts name it.
        package: that is imported.
        install: what pip installs it with.
    """

    title: str
    package: str
    install: str


TRACKERS: Mapping[Tracker, TrackerRules] = {
    "tensorboard": TrackerRules("TensorBoard", "tensorboard", "shopfit[track]"),
    "wandb": TrackerRules("Weights & Biases", "wandb", "shopfit[wandb]"),
    "mlflow": TrackerRules("MLflow", "mlflow", "mlflow"),
    "trackio": TrackerRules("Trackio", "trackio", "trackio"),
}
