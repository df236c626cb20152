"""How answers reach those who asked: never on the serving thread, which belongs to all merchants.

Whoever waits for a result is woken at once. What a caller wants to be told (parts of a text, that an answer is there)
is told on threads of its merchant, in order, so that one that fails, sleeps, or asks the engine again holds up nobody.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

from shopfit.engine.workers import Workers
from shopfit.errors import RequestError, ShopfitError

logger = logging.getLogger(__name__)

Call = Callable[[], object]


class OrderedCalls:
    """Calls that one request's listeners get, one after the other.

    Args:
        workers: whose threads make the calls.
        merchant: whose request it is.
    """

    def __init__(self, workers: Workers, merchant: str) -> None:
        self._workers = workers
        self._merchant = merchant
        self._calls: deque[Call] = deque()
        self._active = False
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> None:
        """Make a call when those before have ended. Where the engine is closed, on this thread."""
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
            except BaseException:  # the next one is told all the same
                logger.exception("a callback of merchant %s failed", self._merchant)


class AnswerFuture(Future[Any]):
    """A future whose callbacks run on threads of its merchant.

    Args:
        calls: makes the calls.
    """

    def __init__(self, calls: OrderedCalls) -> None:
        super().__init__()
        self._calls = calls
        self._acts: list[Call] = []
        super().add_done_callback(cast("Callable[[Future[Any]], object]", AnswerFuture._act))

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call `fn` when the answer is there, off the serving thread."""
        super().add_done_callback(lambda future: self._calls(lambda: fn(future)))

    def when_done(self, act: Call) -> None:
        """For the engine itself: act at once, on the thread that settles the answer. It must be quick, and not fail."""
        self._acts.append(act)
        if self.done():
            self._act()

    def _act(self) -> None:
        """Each act once, and let go of: a future keeps its callbacks, and with them an adapter, as long as it lives."""
        while True:
            try:
                act = self._acts.pop(0)
            except IndexError:
                return
            act()


class Parts:
    """The parts of a text on their way to a listener. What it has not taken yet is put together.

    Args:
        calls: makes the calls.
        show: the listener.
        fail: is told if it fails.
    """

    def __init__(self, calls: OrderedCalls, show: Callable[[str], None], fail: Callable[[Exception], None]) -> None:
        self._calls = calls
        self._show = show
        self._fail = fail
        self._text = ""
        self._lock = threading.Lock()

    def add(self, part: str) -> None:
        """One more part."""
        with self._lock:
            waiting, self._text = bool(self._text), self._text + part
        if not waiting:
            self._calls(self._give)

    def _give(self) -> None:
        with self._lock:
            text, self._text = self._text, ""
        try:
            self._show(text)
        except Exception as error:
            self._fail(error)
        except BaseException as error:  # it would end whichever thread waits for the answer
            self._fail(RequestError(f"the listener of the answer's text raised {type(error).__name__}"))

    def then(self, call: Call) -> None:
        """Make a call when every part has been shown."""
        self._calls(call)
