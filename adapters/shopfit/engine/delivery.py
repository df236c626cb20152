"""Delivers answers to callers, never on the serving thread, which all merchants share.

A thread that waits for a result is woken at once. Callbacks (for parts of a text, and for the finished answer) run in
order on threads of the request's merchant, so that one that fails, sleeps or calls the engine delays nobody else.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, cast

from shopfit.engine.fair_thread_pool import Workers
from shopfit.errors import RequestError, ShopfitError
from shopfit.tasks.generate import TextPart

logger = logging.getLogger(__name__)

Call = Callable[[], object]
Show = Callable[[str], None]
"""Takes each new part of a text."""
Done = Callable[[Future[Any]], object]
"""Takes a future that is done."""


class OrderedCalls:
    """The callbacks of one request, run one after the other.

    Args:
        workers: run the calls.
        merchant: whose request it is.
    """

    def __init__(self, workers: Workers, merchant: str) -> None:
        self._workers = workers
        self._merchant = merchant
        self._calls: deque[Call] = deque()
        self._active = False
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> None:
        """Run a call after the earlier ones. If the engine is closed, it runs on this thread."""
        with self._lock:
            self._calls.append(call)
            if self._active:
                return
            self._active = True
        try:
            self._workers.submit(self._merchant, self._run)
        except ShopfitError:
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._active = False
                    return
                call = self._calls.popleft()
            try:
                call()
            except BaseException:  # the next call is made all the same
                logger.exception("a callback of merchant %s failed", self._merchant)


class AnswerFuture(Future[Any]):
    """A future whose callbacks run on threads of its merchant.

    Args:
        calls: run the callbacks.
    """

    def __init__(self, calls: OrderedCalls) -> None:
        super().__init__()
        self.calls = calls
        self._acts: list[Call] = []
        super().add_done_callback(cast("Callable[[Future[Any]], object]", AnswerFuture._act))

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call `fn` when the answer is there, off the serving thread."""
        super().add_done_callback(lambda future: self.calls(lambda: fn(future)))

    def when_done(self, act: Call) -> None:
        """For the engine itself: act at once, on the thread that sets the result. It must be quick, and not fail."""
        self._acts.append(act)
        if self.done():
            self._act()

    def _act(self) -> None:
        """Run each act once, then drop it: a future keeps its callbacks, and so an adapter, as long as it lives."""
        while True:
            try:
                act = self._acts.pop(0)
            except IndexError:
                return
            act()


class Parts:
    """Streams the parts of a text to a callback. Parts that it was too slow for are joined.

    Args:
        calls: runs the callback.
        show: the callback.
        fail: called with its error, if it raises.
    """

    def __init__(self, calls: OrderedCalls, show: Show, fail: Callable[[Exception], None]) -> None:
        self._calls = calls
        self._show = show
        self._fail = fail
        self._parts: list[str] = []
        self._lock = threading.Lock()

    def add(self, part: str) -> None:
        """Add a part."""
        with self._lock:
            waiting = bool(self._parts)
            self._parts.append(part)
        if not waiting:
            self._calls(self._give)

    def _give(self) -> None:
        with self._lock:
            parts, self._parts = self._parts, []
        try:
            self._show(TextPart.joined(parts))
        except Exception as error:
            self._fail(error)
        except BaseException as error:  # also SystemExit: it would end the thread that waits for the answer
            self._fail(RequestError(f"the listener of the answer's text raised {type(error).__name__}"))

    def then(self, call: Call) -> None:
        """Run a call after every part has been shown."""
        self._calls(call)


async def streamed(submit: Callable[[Callable[[str], None]], Future[Any]]) -> AsyncIterator[str]:
    """The parts of a text, as they are shown; what is left of the request is cancelled when the loop is left.

    Args:
        submit: begins the request, given what shows a part.

    Raises:
        ShopfitError: of the request, after the parts so far.
    """
    loop, parts = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def show(part: str | None) -> None:
        loop.call_soon_threadsafe(parts.put_nowait, part)

    future = submit(show)
    future.add_done_callback(lambda _: None if loop.is_closed() else show(None))
    try:
        while (part := await parts.get()) is not None:
            yield part
        future.result()
    finally:
        future.cancel()


def failed(error: Exception, done: Done | None) -> "Future[Any]":
    """A future that has failed already.

    Args:
        error: of it.
        done: called with it.
    """
    future: Future[Any] = Future()
    future.set_exception(error)
    if done is not None:
        done(future)
    return future
