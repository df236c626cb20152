"""An unanswered request: its ticket (for the caller), the work it was compiled to, and the job that joins both."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import InvalidStateError
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shopfit.adapter.finite import not_finite
from shopfit.adapter.weights import Key, Weights
from shopfit.base.scoring.questions import Question, Row
from shopfit.base.scoring.scorer import Floats
from shopfit.engine.adapter_cache import Loaded
from shopfit.engine.decoding import GeneratedSequence
from shopfit.engine.delivery import AnswerFuture, Parts
from shopfit.errors import DeadlineExceeded, ShopfitError
from shopfit.tasks.generate import TextPart
from shopfit.tasks.requests import Answer, TokenUsage

NONE: frozenset[Key] = frozenset()


@dataclass(slots=True, eq=False)
class Ticket:
    """The caller's side of a request: its future, its deadline and its merchant.

    Args:
        merchant: of the request, for fairness.
        future: of the answer; cancelling it ends the request at any stage.
        expires: `time.monotonic()` of the deadline.
        usage: tokens that it has cost.
        parts: generate: streams each new part of the text; None if only the whole is wanted.
        ended: whether it was answered, or failed.
        since: `time.monotonic()` of the submission.
        waited: seconds until its first forward; None before that.
    """

    merchant: str
    future: AnswerFuture
    expires: float = math.inf
    usage: TokenUsage = field(default_factory=TokenUsage)
    parts: Parts | None = None
    ended: bool = False
    since: float = field(default_factory=time.monotonic)
    waited: float | None = None

    @property
    def over(self) -> bool:
        """Whether it was answered or cancelled. If its deadline has passed, this call makes it fail."""
        if not self.ended and not self.future.done() and time.monotonic() > self.expires:
            self.fail(
                DeadlineExceeded(
                    "the request was not answered in time", next_step="give it more time, or the engine fewer requests"
                )
            )
        return self.ended or self.future.done()

    def begin(self, tokens: int) -> None:
        """A forward begins that reads tokens for it. Once a row: one that failed is tried again without."""
        if self.waited is None:
            self.waited = time.monotonic() - self.since
        self.usage.read += tokens

    def give(self, answer: Any) -> None:
        """Set the answer."""
        self._settle(lambda: self.future.set_result(answer))

    def fail(self, error: Exception) -> None:
        """Set an error in place of the answer; one that is no ShopfitError becomes the cause of one."""
        if not isinstance(error, ShopfitError):
            unforeseen = ShopfitError(
                f"the request could not be answered: {type(error).__name__}: {error}",
                next_step="other requests go on; please report this one if it comes again",
            )
            unforeseen.__cause__ = error
            error = unforeseen
        self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Set an error of the caller's own code, unchanged."""
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, give: Callable[[], None]) -> None:
        if self.ended:
            return
        self.ended = True

        def settle() -> None:
            try:
                give()
            except InvalidStateError:  # it was cancelled meanwhile
                return

        if self.parts is None:
            settle()
        else:
            self.parts.then(settle)  # the last parts are shown before the result is set


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A request compiled for an adapter: what to compute, and how the result becomes the answer.

    Args:
        weights: of the adapter; None for the bare base.
        answer: makes the answer of the results of all rows (scores or vectors), or of the finished sequence; who made
            it, and of how many tokens, is added to it.
        rows: choose and rank: what forwards compute; empty where the model is not needed.
        sequence: generate: what is decoded.
        loaded: the adapter, which caches vectors of recurring texts; None where there are none.
        version: that answers, by name.
        digest: of its bundle; empty if it has none.
    """

    weights: Weights | None
    answer: Callable[[Any], Answer]
    rows: Sequence[Row] = ()
    sequence: GeneratedSequence | None = None
    loaded: Loaded | None = None
    version: str = ""
    digest: str = ""

    @property
    def needs(self) -> frozenset[Key]:
        """The key of the adapter that must be in a slot; empty for a prefix or the bare base."""
        return NONE if self.weights is None or self.weights.packed is None else frozenset((self.weights.key,))

    @property
    def behind(self) -> int:
        """Tokens of the prefix."""
        return 0 if self.weights is None else self.weights.prefix_length

    @property
    def tokens(self) -> int:
        """The most tokens that a row attends to, those of a prefix included."""
        longest = max((row.longest for row in self.rows), default=0)
        return self.behind + (longest if self.sequence is None else len(self.sequence.prompt) + 1)

    @property
    def apart(self) -> tuple[int, int]:
        """The most tokens of a prompt, and of an answer to it that is there already."""
        prompts = [] if self.sequence is None else [len(self.sequence.prompt)]
        questions = [row for row in self.rows if isinstance(row, Question)]
        prompts += [len(question.prompt) for question in questions]
        answers = [question.longest - len(question.prompt) + 1 for question in questions]
        return max(prompts, default=0), max(answers, default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Work that is being done, and the ticket of who waits for it.

    Args:
        ticket: of the request.
        work: that it was compiled to.
        scores: results of its rows so far, by place.
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
        """Whether its request is over."""
        return self.ticket.over

    def entries(self) -> list["Entry"]:
        """Its rows, or its prompt, as entries for a queue."""
        if self.work.sequence is not None:
            return [Entry(self, 0, self.work.sequence.tokens)]
        return [Entry(self, place, row.tokens) for place, row in enumerate(self.work.rows)]

    def scored(self, place: int, scores: Floats) -> None:
        """Add the result of one row; the last one completes the answer."""
        if not np.isfinite(scores).all():
            self.fail(not_finite())
            return
        self.scores[place] = scores
        if len(self.scores) == len(self.work.rows):
            self.finish([self.scores[number] for number in range(len(self.work.rows))])

    def written(self) -> None:
        """The sequence has a new token."""
        sequence, parts = self.work.sequence, self.ticket.parts
        assert sequence is not None
        self.ticket.usage.written = len(sequence.detokenizer.tokens)
        if parts is not None and sequence.error is None:
            over, written, logprobs = sequence.finish is not None, sequence.detokenizer, sequence.logprobs
            try:
                part = written.fresh(over=over)
            except Exception as error:
                self.fail(error)
                return
            tokens = () if logprobs is None else logprobs.fresh(written.cut if over else written.shown)
            if part or tokens:
                parts.add(part if logprobs is None else TextPart(part, tokens))

    def finish(self, result: Any) -> None:
        """Make the answer of what was computed, and set it."""
        work, ticket = self.work, self.ticket
        try:
            answer = replace(
                work.answer(result),
                version=work.version,
                digest=work.digest,
                read=ticket.usage.read,
                written=ticket.usage.written,
                waited=ticket.waited or 0.0,
            )
        except Exception as error:
            self.fail(error)
            return
        self.ticket.give(answer)

    def fail(self, error: Exception) -> None:
        """Set an error in place of the answer; see `Ticket.fail`."""
        self.ticket.fail(error)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One row of a future forward: a row of a job, or the prompt of its sequence.

    Args:
        job: it belongs to.
        place: index into the job's rows.
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
        """The row to compute, for choose and rank."""
        return self.job.work.rows[self.place]
