"""A request under way: the ticket that its caller holds, the work it was compiled to, and both together as a job."""

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
from shopfit.engine.adapter_cache import Loaded
from shopfit.engine.decoding import GeneratedSequence, not_finite
from shopfit.engine.delivery import AnswerFuture, Parts
from shopfit.errors import DeadlineExceeded, RequestError, ShopfitError

NONE: frozenset[Key] = frozenset()


@dataclass(slots=True, eq=False)
class Ticket:
    """What a caller holds of a request: where the answer goes, whether it is still wanted, and whose it is.

    Args:
        merchant: whose it is, for fairness.
        future: where the answer goes; cancelling it ends the request wherever it is.
        expires: `time.monotonic()` after which nobody waits for the answer.
        parts: generate: take each new part of the text; None if only the whole is wanted.
        ended: whether it was answered, or failed.
    """

    merchant: str
    future: AnswerFuture
    expires: float = math.inf
    parts: Parts | None = None
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether its answer is there, or not wanted any more. A request that is late fails by being asked."""
        if not self.ended and not self.future.done() and time.monotonic() > self.expires:
            self.fail(
                DeadlineExceeded(
                    "the request was not answered in time", next_step="give it more time, or the engine fewer requests"
                )
            )
        return self.ended or self.future.done()

    def give(self, answer: Any) -> None:
        """Give the answer."""
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
class Work:
    """A request compiled for an adapter: what is to be computed, and what answer it makes.

    Args:
        weights: of the adapter; None for the bare base.
        answer: makes the answer of what all rows gave (scores, or vectors), or of the finished line.
        rows: choose and rank: what forwards compute; none where nothing is asked of the model.
        sequence: generate: what is written.
        loaded: the adapter, which keeps the vectors of texts that come again; None where none do.
    """

    weights: Weights | None
    answer: Callable[[Any], Any]
    rows: Sequence[Row] = ()
    sequence: GeneratedSequence | None = None
    loaded: Loaded | None = None

    @property
    def needs(self) -> frozenset[Key]:
        """The adapter that must be in a slot; none for a prefix or the bare base."""
        return NONE if self.weights is None or self.weights.packed is None else frozenset((self.weights.key,))

    @property
    def tokens(self) -> int:
        """The most that the base has to attend to, what stands before every row included."""
        behind = 0 if self.weights is None else self.weights.prefix_length
        longest = max((row.longest for row in self.rows), default=0)
        return behind + (longest if self.sequence is None else len(self.sequence.prompt) + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work under way, and whoever waits for it.

    Args:
        ticket: of the request.
        work: that it was compiled to.
        scores: what its rows gave so far, by place.
    """

    ticket: Ticket
    work: Work
    scores: dict[int, Floats] = field(default_factory=dict)

    @property
    def merchant(self) -> str:
        """Whose it is."""
        return self.ticket.merchant

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.ticket.over

    def entries(self) -> list["Entry"]:
        """What is to be computed, each for itself."""
        if self.work.sequence is not None:
            return [Entry(self, 0, self.work.sequence.tokens)]
        return [Entry(self, place, row.tokens) for place, row in enumerate(self.work.rows)]

    def scored(self, place: int, scores: Floats) -> None:
        """What one row gave; the last one completes the answer."""
        if not np.isfinite(scores).all():
            self.fail(not_finite())
            return
        self.scores[place] = scores
        if len(self.scores) == len(self.work.rows):
            self.finish([self.scores[number] for number in range(len(self.work.rows))])

    def written(self) -> None:
        """The line has a new token."""
        sequence, parts = self.work.sequence, self.ticket.parts
        assert sequence is not None
        if parts is not None and sequence.error is None:
            try:
                part = sequence.detokenizer.fresh(over=sequence.finish is not None)
            except Exception as error:
                self.fail(error)
                return
            if part:
                parts.add(part)

    def finish(self, result: Any) -> None:
        """Make the answer of what was computed, and give it."""
        try:
            answer = self.work.answer(result)
        except Exception as error:
            self.fail(error)
            return
        self.ticket.give(answer)

    def fail(self, error: Exception) -> None:
        """Give an error in place of an answer; see `Ticket.fail`."""
        self.ticket.fail(error)


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
        return self.job.work.rows[self.place]
