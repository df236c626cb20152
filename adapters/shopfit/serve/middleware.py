"""Pure ASGI middleware: the body's size and time, and a client that goes away, before any endpoint is reached."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from shopfit.errors import DeadlineExceeded, ScopeMissing, ShopfitError
from shopfit.serve.failures import error_response
from shopfit.serve.large_bodies import LargeBodies, Room, room_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY = 1024 * 1024
"""Bytes of a body."""
_MOST_OPEN = 4096  # of one that no key has come with: nothing is asked for there
_SLOWEST = 30.0  # seconds that a body may take, and a slow reader beyond the answer's own time
_UNWATCHED = 0.05  # seconds of an answer until its client's going away is watched for


class BodyTooLargeError(ShopfitError):
    """A request's body has too many bytes."""

    http_status = 413
    cure = "Send fewer inputs in a request. A body may have 1 MB, a catalog more."


class BodyTooSlowError(ShopfitError):
    """A request's body did not arrive in time."""

    http_status = 408
    cure = "Send the body within 30 seconds."


class RequestGuard:
    """Reads the whole body within its limits, and ends the request's work when its client goes away or time is up.

    Args:
        app: that answers.
        timeout: seconds that an answer may take; some more are left for sending it.
    """

    def __init__(self, app: App, timeout: float) -> None:
        self._app = app
        self._most_time = timeout + _SLOWEST
        self._large = LargeBodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        async with AsyncExitStack() as held:
            failed = scope.get("state", {}).get("failure", error_response)  # a page, where people ask
            try:
                room = room_of(scope)
                async with asyncio.timeout(_SLOWEST if room is None and scope["method"] != "PUT" else 10 * _SLOWEST):
                    body = await self._body(scope, receive, room, held)
            except TimeoutError:
                slow = BodyTooSlowError(
                    "the body of the request did not arrive in time", next_step="send it again, faster"
                )
                await failed(slow, {"connection": "close"})(scope, receive, send)
                return
            except (BodyTooLargeError, ScopeMissing) as error:
                await failed(error, {"connection": "close"})(scope, receive, send)
                return
            if body is None:  # the client went away
                return
            await self._run(scope, body, receive, send)

    async def _body(self, scope: Scope, receive: Receive, room: Room | None, held: AsyncExitStack) -> bytes | None:
        """The whole body; None if the client goes away. A large one's turn is entered into `held`."""
        most = room.most if room else MOST_BODY if "grant" in scope.get("state", {}) else _MOST_OPEN
        parts: list[bytes] = []
        size, is_large = 0, False
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise BodyTooLargeError(
                    f"the body of the request has more than {most:,} bytes", next_step="send less in one request"
                )
            if room and size > MOST_BODY and not is_large:
                await held.enter_async_context(self._large.turn(room.merchant))
                is_large = True
            if not message.get("more_body", False):
                return b"".join(parts)

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        work = asyncio.current_task()
        assert work is not None
        watch = _Watch(work, receive, self._most_time)
        sent = begun = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await watch.gone.wait()
            return {"type": "http.disconnect"}

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, replay, answer)
        except asyncio.CancelledError:
            if not watch.ended:  # the server itself is ending
                raise
            work.uncancel()
            if watch.late and not begun:
                late = DeadlineExceeded("the request was not answered in time", next_step="send it again in a moment")
                await error_response(late)(scope, receive, send)
            # else the server closes the connection, as its answer is not complete
        finally:
            watch.end()


class _Watch:
    """Cancels the work on a request whose client has gone, or whose time is up.

    It begins after a moment: most requests are answered before, and need no task that watches.

    Args:
        work: that answers.
        receive: says when the client goes away.
        seconds: that the work may take.
    """

    def __init__(self, work: "asyncio.Task[Any]", receive: Receive, seconds: float) -> None:
        self.gone = asyncio.Event()
        self.late = False
        self._work = work
        self._receive = receive
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None
        self._beginning = asyncio.get_running_loop().call_later(_UNWATCHED, self._begin)

    @property
    def ended(self) -> bool:
        """Whether it has cancelled the work."""
        return self.late or self.gone.is_set()

    def end(self) -> None:
        """The work is over."""
        self._beginning.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
            self.gone.set()
        except TimeoutError:
            self.late = True
        self._work.cancel()
