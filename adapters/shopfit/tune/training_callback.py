"""What sees a training as it goes on, such as a progress bar."""

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from shopfit.evaluation.report import CurvePoint
from shopfit.tune.reporter import Reporter


class TrainingCallback(Protocol):
    """What is called as training goes on, such as a progress bar."""

    def begin(self, steps: int) -> None:
        """Training starts; it takes `steps` optimizer steps at most."""

    def step(self, step: int, loss: float) -> None:
        """An optimizer step is done; `step` counts from 1."""

    def epoch(self, point: CurvePoint) -> None:
        """An epoch is done."""


@runtime_checkable
class StopsTraining(Protocol):
    """A callback that may end a training early."""

    def wants_stop(self) -> bool:
        """Whether training is to end here, and its best weights are wanted; asked after each step."""


class NoCallback:
    """Does nothing."""

    def begin(self, steps: int) -> None:
        """Ignored."""

    def step(self, step: int, loss: float) -> None:
        """Ignored."""

    def epoch(self, point: CurvePoint) -> None:
        """Ignored."""


class Heartbeat(NoCallback):
    """Says how far a training is, and about how long it still takes, whenever some seconds have passed in it.

    Args:
        reporter: told so.
        stage: of the run, such as "folds".
        what: is trained, such as "fold 2 of 3".
        every: seconds between two lines, at least.
        clock: gives seconds.
    """

    def __init__(
        self,
        reporter: Reporter,
        stage: str,
        what: str,
        *,
        every: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter, self._stage, self._what = reporter, stage, what
        self._every, self._clock = every, clock
        self._steps, self._before = 0, -1  # steps of the training, and those that an earlier process took
        self._started = self._said = 0.0

    def begin(self, steps: int) -> None:
        """Start the clock."""
        self._steps, self._before = steps, -1
        self._started = self._said = self._clock()

    def step(self, step: int, loss: float) -> None:
        """Say it, if it is time."""
        now = self._clock()
        if self._before < 0:
            self._before = step - 1
        if now - self._said < self._every:
            return
        self._said = now
        left = (now - self._started) / (step - self._before) * (self._steps - step)
        self._reporter(
            self._stage, f"{self._what}: step {step} of {self._steps}, loss {loss:.3f}, {left:.0f} s left at most"
        )
