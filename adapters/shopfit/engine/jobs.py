"""A request under way: what the scheduler needs of it, and how its answer gets back."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shopfit.adapter.weights import Key, Weights
from shopfit.base.scoring.questions import Row
from shopfit.base.scoring.scorer import Floats
from shopfit.engine.decoding import Line, not_finite
from shopfit.engine.delivery import AnswerFuture, Parts
from shopfit.engine.memory import Loaded
from shopfit.errors import DeadlineExceeded, RequestError, ShopfitError

NONE: frozenset[Key] = frozenset()


@dataclass(slots=True, eq=False)
class Job:
    """One request.

    Args:
        merchant: whose it is, for fairness.
        future: where the answer goes; cancelling it ends the job wherever it is.
        expires: `time.monotonic()` after which nobody waits for the answer.
        parts: generate: take each new part of the text.
        weights: of the adapter; None for the bare base.
        rows: choose and rank: what forwards compute.
        line: generate: what is written.
        answer: makes the answer of what all rows gave (scores, or vectors), or of the finished line.
        loaded: the adapter, which keeps the vectors of texts that come again; None where none do.
    """

    merchant: str
    future: AnswerFuture
    expires: float = math.inf
    parts: Parts | None = None
    weights: Weights | None = None
    rows: Sequence[Row] = ()
    line: Line | None = None
    answer: Callable[[Any], Any] = lambda result: result
    loaded: Loaded | None = None
    scores: dict[int, Floats] = field(default_factory=dict)
    ended: bool = False

    @property
    def needs(self) -> frozenset[Key]:
        """The adapter that must be in a slot; none for a prefix or the bare base."""
        return NONE if self.weights is None or self.weights.packed is None else frozenset((self.weights.key,))

    @property
    def over(self) -> bool:
        """Whether its answer is there, or not wanted any more. A job that is late fails by being asked."""
        if not self.ended and not self.future.done() and time.monotonic() > self.expires:
            self.fail(
                DeadlineExceeded(
                    "the request was not answered in time", next_step="give it more time, or the engine fewer requests"
                )
            )
        return self.ended or self.future.done()

    def entries(self) -> list["Entry"]:
        """What is to be computed, each for itself."""
        if self.line is not None:
            return [Entry(self, 0, self.line.tokens)]
        return [Entry(self, place, row.tokens) for place, row in enumerate(self.rows)]

    def scored(self, place: int, scores: Floats) -> None:
        """What one row gave; the last one completes the answer."""
        if not np.isfinite(scores).all():
            self.fail(not_finite())
            return
        self.scores[place] = scores
        if len(self.scores) == len(self.rows):
            self.finish([self.scores[number] for number in range(len(self.rows))])

    def written(self) -> None:
        """The line has a new token."""
        assert self.line is not None
        if self.parts is not None and self.line.error is None:
            try:
                part = self.line.writing.fresh(over=self.line.finish is not None)
            except Exception as error:
                self.fail(error)
                return
            if part:
                self.parts.add(part)

    def finish(self, result: Any) -> None:
        """Give the answer."""
        try:
            answer = self.answer(result)
        except Exception as error:
            self.fail(error)
            return
        self._settle(lambda: self.future.set_result(answer))

    def fail(self, error: Exception) -> None:
        """Give an error in place of an answer; one that nobody foresaw is named, with its cause behind it."""
        if not isinstance(error, ShopfitError):
            unforeseen = RequestError(
                f"the request could not be answered: {type(error).__name__}: {error}",
                next_step="other requests go on; please report this one if it comes again",
            )
            unforeseen.__cause__ = error
            error = unforeseen
        self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Give the caller's own error back, as it is."""
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, give: Callable[[], None]) -> None:
        if self.ended:
            return
        self.ended = True

        def settle() -> None:
            try:
                give()
            except InvalidStateError:  # cancelled meanwhile
                return

        if self.parts is None:
            settle()
        else:
            self.parts.then(settle)  # the text comes before its end


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One row of a forward to come: one of a job's, or the prompt of its line.

    Args:
        job: whose it is.
        place: which of the job's rows.
        tokens: that the forward reads for it.
    """

    job: Job
    place: int
    tokens: int

    @property
    def merchant(self) -> str:
        """Whose it is."""
        return self.job.merchant

    @property
    def row(self) -> Row:
        """What is computed, for choose and rank."""
        return self.job.rows[self.place]
