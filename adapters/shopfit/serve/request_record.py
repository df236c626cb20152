"""What is known of one HTTP request, gathered while it is answered: for its headers, the log, metrics and spans."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class RequestRecord:
    """One HTTP request. What a client sent is in none of these but `texts`: names are those that were found.

    Args:
        key: public id of the key that asks; empty before it was checked.
        merchant: whose limits it counts for; empty before that is known.
        adapter: `merchant/recipe` that was found; empty if none was.
        version: that answers.
        release: why that version: "production", "canary" or "named".
        answer: id of the answer.
        cold: whether its engine was still starting when it came.
        broken: status of the error that ended a stream; 0 without.
        kind: class of the error that ended the request once its adapter was found; empty without.
        read: tokens that forwards read.
        written: tokens generated.
        waited: seconds until the first forward of each answer.
        first: time.perf_counter() of the first part that was streamed.
        last: of the last one.
        texts: fields of what was asked, where the log may hold them.
        headers: that the answer carries, whatever becomes of the request.
        after: called when the answer is sent.
        began: time.perf_counter() of the request.
    """

    key: str = ""
    merchant: str = ""
    adapter: str = ""
    version: str = ""
    release: str = ""
    answer: str = ""
    cold: bool = False
    broken: int = 0
    kind: str = ""
    read: int = 0
    written: int = 0
    waited: list[float] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0
    texts: list[Any] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    after: list[Callable[[], None]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def part(self) -> None:
        """A part of a text is sent."""
        self.last = time.perf_counter()
        self.first = self.first or self.last


_RECORD: ContextVar[RequestRecord | None] = ContextVar("shopfit-request", default=None)


def begin_record() -> RequestRecord:
    """A new request's record, for all that runs in its context from now on."""
    record = RequestRecord()
    _RECORD.set(record)
    return record


def current_record() -> RequestRecord:
    """The record of the request that is being answered here."""
    return _RECORD.get() or begin_record()
