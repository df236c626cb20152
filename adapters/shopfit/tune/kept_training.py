"""One training and its checkpoint: what is written, and how it goes on from that, bitwise as if it had never ended."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from shopfit import __version__
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.trained_weights import TrainedWeights
from shopfit.base.load import Base
from shopfit.documents import document
from shopfit.merchant.examples import Example, content_digest
from shopfit.recipe.schema import Recipe
from shopfit.signals import held_back
from shopfit.tune.checkpoints import Checkpoints, Kept
from shopfit.tune.processes import agreed
from shopfit.tune.training_dataset import TrainingSet
from shopfit.tune.training_loop import Place, TrainingLoop

_FIELDS = [one.name for one in fields(Example) if one.name != "where"]
_LIBRARIES = ("torch", "peft", "accelerate", "transformers")


class KeptTraining:
    """A training that is written as it goes on, on the first process.

    Args:
        checkpoints: of the run; None to keep nothing.
        name: of the training, from `name_of`.
        weights: that are trained.
        optimizer: of them.
        loop: of the training, before its first step.
        accelerator: of the run.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        name: str,
        weights: TrainedWeights,
        optimizer: torch.optim.Optimizer,
        loop: TrainingLoop,
        accelerator: Accelerator,
    ) -> None:
        self._checkpoints = checkpoints
        self._name, self._weights, self._optimizer, self._loop = name, weights, optimizer, loop
        self._accelerator = accelerator
        self._started = time.perf_counter()
        self._on_disk = -1
        self._torn = False  # whether a step was ended in its middle
        kept = self._read()
        if kept is not None:
            self._go_on(kept)

    @property
    def seconds(self) -> float:
        """That the training took, those before it was ended included."""
        return time.perf_counter() - self._started

    @contextmanager
    def step(self) -> Iterator[None]:
        """A context for a step: a signal waits for its end, and what ends the run there is kept."""
        with held_back():
            self._torn = True
            yield
            self._torn = False
        if self._checkpoints is not None and self._checkpoints.due:
            self.write()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """A context for all steps and checks: if a signal ends it, the training is kept."""
        try:
            yield
        except KeyboardInterrupt:
            with held_back():
                self.write()
            raise

    def write(self) -> None:
        """Keep the training as it is, if it is not on disk yet, and no second signal ended it within a step."""
        place, checkpoints = self._loop.place, self._checkpoints
        told = place.steps + place.over
        if checkpoints is None or self._torn or not self._accelerator.is_main_process or told == self._on_disk:
            return
        tensors = _numbered("weights", self._weights.state()) | _numbered("best", place.best or [])
        tensors |= {f"averages/{name}": value for name, value in self._weights.averages().items()}
        plain: dict[str, Any] = {}
        for index, weight in enumerate(() if place.over else self._weights.parameters()):
            for key, value in self._optimizer.state[weight].items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{key}"] = value.to("cpu", copy=True)
                else:
                    plain[f"{index}/{key}"] = value
        scaler = self._accelerator.scaler
        facts = {
            "place": place.facts(),
            "optimizer": plain,
            "scaler": None if scaler is None else scaler.state_dict(),
            "seconds": self.seconds,
        }
        if checkpoints.write(self._name, Kept(tensors, facts)):
            self._on_disk = told
            checkpoints.steps = place.steps

    def _read(self) -> Kept | None:
        """What was kept, on all processes."""
        checkpoints, accelerator = self._checkpoints, self._accelerator
        if checkpoints is None:
            return None
        return agreed(accelerator, checkpoints.read(self._name) if accelerator.is_main_process else None)

    def _go_on(self, kept: Kept) -> None:
        self._weights.restore(_listed(kept.group("weights")))
        self._weights.put_averages(kept.group("averages"))
        weights = list(self._weights.parameters())
        for name, value in {**kept.facts["optimizer"], **kept.group("optimizer")}.items():
            index, _, key = name.partition("/")
            on_cpu = key == "step" or not isinstance(value, Tensor)  # as torch keeps the number of steps
            weight = weights[int(index)]
            self._optimizer.state[weight][key] = value if on_cpu else value.to(weight.device)
        if self._accelerator.scaler is not None and kept.facts["scaler"]:
            self._accelerator.scaler.load_state_dict(kept.facts["scaler"])
        self._loop.place = Place.of(kept.facts["place"], _listed(kept.group("best")) or None)
        self._started -= kept.facts["seconds"]
        self._on_disk = self._loop.place.steps + self._loop.place.over


def name_of(
    base: Base,
    recipe: Recipe,
    merchants: Sequence[TrainingSet],
    start: Start | None,
    processes: int,
    per_merchant: int | None = None,
) -> str:
    """Name of a training: a digest of all that determines it, so that another one never goes on from its checkpoint."""
    settings = recipe.model_dump(mode="json")
    settings["tune"].pop("trackers")
    said = [
        {name: version(name) for name in _LIBRARIES} | {"shopfit": __version__},
        [base.fingerprint, base.dtype, base.quantization, base.rounding, base.device.type, processes],
        [settings, per_merchant, None if start is None else _start(start)],
        [_merchant(training_set) for training_set in merchants],
    ]
    return content_digest(document(said))[:32]


def _merchant(training_set: TrainingSet) -> list[Any]:
    said = hashlib.sha256()
    for rows in (training_set.train, training_set.valid, training_set.beside):
        for row in rows:
            said.update(content_digest(document([getattr(row, name) for name in _FIELDS])).encode())
        said.update(b"end")
    catalogs = (training_set.prompter.catalog, training_set.prompter.history)
    return [
        [None if catalog is None else catalog.digest for catalog in catalogs],
        list(training_set.labels),
        said.hexdigest(),
    ]


def _start(start: Start) -> list[str]:
    """A start's name, and a digest of its numbers."""
    said = hashlib.sha256()
    tensors = [tensor for pair in (start.factors or {}).values() for tensor in pair]
    tensors += [] if start.prefix is None else [start.prefix]
    tensors += [] if start.head is None else [start.head.prototypes]
    for tensor in tensors:
        said.update(tensor.detach().double().cpu().numpy().tobytes())
    return [start.name, said.hexdigest()]


def _numbered(group: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{group}/{number}": tensor for number, tensor in enumerate(tensors)}


def _listed(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensors[str(number)] for number in range(len(tensors))]
