"""What sees a training as it goes on, such as a progress bar."""

from typing import Protocol

from shopfit.evaluation.report import CurvePoint


class TrainingCallback(Protocol):
    """What is called as training goes on, such as a progress bar."""

    def begin(self, steps: int) -> None:
        """Training starts; it takes `steps` optimizer steps at most."""

    def step(self, step: int, loss: float) -> None:
        """An optimizer step is done; `step` counts from 1."""

    def epoch(self, point: CurvePoint) -> None:
        """An epoch is done."""


class NoCallback:
    """Does nothing."""

    def begin(self, steps: int) -> None:
        """Ignored."""

    def step(self, step: int, loss: float) -> None:
        """Ignored."""

    def epoch(self, point: CurvePoint) -> None:
        """Ignored."""
