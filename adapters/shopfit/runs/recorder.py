"""Records a run in its folder while it goes on: its stages, its training, its versions, and how it ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shopfit.errors import ShopfitError
from shopfit.evaluation.report import CurvePoint
from shopfit.evaluation.summary import summary
from shopfit.onboarding import Onboarded
from shopfit.runs.events import Kind
from shopfit.runs.folder import Run
from shopfit.tune.reporter import Reporter
from shopfit.tune.training_callback import TrainingCallback

_EVERY = 0.5  # seconds between two steps that are written


class Record:
    """A reporter and a callback of training that write what they are told, and hand it on.

    Args:
        run: that is recorded; None to record nothing.
        reporter: is told of every stage, too.
        callback: sees every step, too.
    """

    def __init__(self, run: Run | None, reporter: Reporter, callback: TrainingCallback) -> None:
        self._run, self._reporter, self._callback = run, reporter, callback
        self._written = 0.0
        self._steps = 0
        self._published = ""

    def __call__(self, what: str, detail: str) -> None:
        """A stage."""
        self._reporter(what, detail)
        self._tell("stage", what=what, detail=detail)

    def begin(self, steps: int) -> None:
        """Training starts."""
        self._callback.begin(steps)
        self._steps = steps
        self._tell("begin", steps=steps)

    def step(self, step: int, loss: float) -> None:
        """A step; of several in a moment one is written."""
        self._callback.step(step, loss)
        now = time.monotonic()
        if now - self._written >= _EVERY or step == self._steps:
            self._written = now
            self._tell("step", step=step, loss=loss)

    def epoch(self, point: CurvePoint) -> None:
        """An epoch."""
        self._callback.epoch(point)
        self._tell("epoch", **point.model_dump(mode="json"))

    def wants_stop(self) -> bool:
        """Whether somebody asked for the best weights so far."""
        return self._run is not None and self._run.wants_best

    def published(self, done: Onboarded, *, instant: bool = False) -> None:
        """A version is in the registry."""
        self._published = done.version.name
        aliases = done.version.aliases
        stands = {
            "promoted": "production" in aliases,
            "candidate": "candidate" in aliases,
        }
        self._tell("version", name=done.version.name, instant=instant, **summary(done.report) | stands)

    def finish(self, done: Onboarded) -> None:
        """The run is over."""
        if done.version.name != self._published:
            self.published(done)
        self._tell("ended", refused=done.report.verdict.refused and done.instant is None, version=done.version.name)

    def _tell(self, kind: Kind, /, **facts: Any) -> None:
        if self._run is None:
            return
        try:
            self._run.tell(kind, **facts)
        except ShopfitError:
            if not self._run.folder.is_dir():  # its merchant was erased: the run is not to go on
                raise


@contextmanager
def recording(run: Run | None, reporter: Reporter, callback: TrainingCallback) -> Iterator[Record]:
    """A context for a run that is under way; how it ends is written, whatever that is, unless `finish` told it.

    Args:
        run: that is recorded; None to record nothing.
        reporter: is told of every stage, too.
        callback: sees every step, too.
    """
    record = Record(run, reporter, callback)
    if run is None:
        yield record
        return
    with run.held():
        with suppress(ShopfitError):  # a full disk costs the record, and not the run
            run.tell("started")
        try:
            yield record
        except KeyboardInterrupt:
            with suppress(ShopfitError):  # what ended the run is what is to be known
                run.tell("stopped")
            raise
        except BaseException as error:
            known = error if isinstance(error, ShopfitError) else ShopfitError(f"{type(error).__name__}: {error}")
            with suppress(ShopfitError):
                told = known.document()
                run.tell("failed", **{name: told[name] for name in ("message", "problems", "next")})
            raise
