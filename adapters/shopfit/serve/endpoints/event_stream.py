"""Generated texts as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from shopfit.errors import ShopfitError
from shopfit.serve.failures import error_body
from shopfit.serve.gateway import Ask, Document, Turn

logger = logging.getLogger(__name__)

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
"""What the API's docs say of an answer that may be a stream."""

_PING = 15.0  # seconds without an event, after which a comment keeps the connection alive
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class Written:
    """What came of one of several texts: a part of it, or its whole answer, which is the last.

    Args:
        index: of the text.
        kind: "part" or "answer".
        value: as `Turn.stream` gives it.
    """

    index: int
    kind: str
    value: Any


class Chunks(Protocol):
    """How an API shows the parts of its answers."""

    def begin(self) -> Sequence[Document]:
        """Events before the first part."""

    def part(self, index: int, text: str, tokens: Sequence[Mapping[str, Any]]) -> Document:
        """The event of a part of an answer."""

    def end(self, index: int, answer: Document) -> Document:
        """The event of an answer's end."""

    def usage(self) -> Document | None:
        """The event after all answers, if there is one."""


class EventStream(EventSourceResponse):
    """A response of events. However it ends, what writes them and what is held for them end with it.

    Args:
        events: of which errors are no part: an error becomes the last event.
        held: left after the last event, or at the error.
        headers: of the response.
    """

    def __init__(self, events: "_Events", held: AsyncExitStack, headers: Mapping[str, str]) -> None:
        self._events = events
        self._held = held
        super().__init__(events.sent(), headers={**headers, **_HEADERS})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            async with self._held:
                await super().__call__(scope, receive, send)
                if self._events.error is not None:  # the turn counts it; the client has been told
                    raise self._events.error
        except ShopfitError as error:
            if error is not self._events.error:
                raise


async def begin_stream(held: AsyncExitStack, turn: Turn, asks: Sequence[Ask], chunks: Chunks) -> EventStream:
    """Ask, and answer with events once the first part is there; what goes wrong before is no stream, but an error.

    Args:
        held: with the turn in it; it is empty afterwards.
        turn: that answers.
        asks: for texts, which are written at the same time.
        chunks: that show them.

    Raises:
        ShopfitError: as the engine does.
    """
    written = await held.enter_async_context(aclosing(_written(turn, asks)))
    first = None
    while first is None:
        first = await anext(written)
    return EventStream(_Events(first, written, chunks), held.pop_all(), turn.headers)


class _Events:
    """The events of a stream: `sent` gives them as bytes, and notes the error that ended them early."""

    def __init__(self, first: Written, written: AsyncGenerator[Written | None, None], chunks: Chunks) -> None:
        self.error: ShopfitError | None = None
        self._first = first
        self._written = written
        self._chunks = chunks

    async def sent(self) -> AsyncGenerator[bytes, None]:
        """Every event."""
        try:
            for document in self._chunks.begin():
                yield _event(document)
            yield self._shown(self._first)
            async for one in self._written:
                yield KEEPALIVE_COMMENT if one is None else self._shown(one)
            if (usage := self._chunks.usage()) is not None:
                yield _event(usage)
            yield format_sse_event(data_str="[DONE]")
        except ShopfitError as error:
            self.error = error
            yield _event(error_body(error))

    def _shown(self, written: Written) -> bytes:
        if written.kind == "answer":
            return _event(self._chunks.end(written.index, written.value))
        part = written.value
        if isinstance(part, str):
            return _event(self._chunks.part(written.index, part, ()))
        return _event(self._chunks.part(written.index, part["text"], part["tokens"]))


def _event(document: Document) -> bytes:
    # escaped: a line separator that is no line feed, such as U+2028, must not end a line of the event
    return format_sse_event(data_str=json.dumps(document, ensure_ascii=True, separators=(",", ":")))


async def _written(turn: Turn, asks: Sequence[Ask]) -> AsyncGenerator[Written | None, None]:
    """What is written of several texts, as it comes; None where nothing came for a while. The first error ends all.

    Raises:
        ShopfitError: as the engine does.
    """
    came: asyncio.Queue[Written | Exception] = asyncio.Queue()

    async def follow(index: int, ask: Ask) -> None:
        try:
            async with aclosing(turn.stream(ask)) as parts:
                async for kind, value in parts:
                    came.put_nowait(Written(index, kind, value))
        except Exception as error:
            came.put_nowait(error)

    following = [asyncio.create_task(follow(index, ask)) for index, ask in enumerate(asks)]
    left = len(following)
    try:
        while left:
            try:
                async with asyncio.timeout(_PING):
                    one = await came.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(one, ShopfitError):
                raise one
            if isinstance(one, Exception):
                logger.error("a stream failed", exc_info=one)
                raise ShopfitError(
                    "the answer could not be written to its end", next_step="send the request again"
                ) from one
            left -= one.kind == "answer"
            yield one
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
