"""Threads that run one at a time, in an order that the one who conducts them decides."""

import threading
from collections.abc import Callable


class Ended(BaseException):
    """Raised in a thread that shall end: whoever conducts it has given up."""


class Turn:
    """Work in a thread of its own, which runs only when it is its turn.

    Args:
        name: of the thread.
        work: is given this object.
    """

    def __init__(self, name: str, work: "Callable[[Turn], None]") -> None:
        self.over = False
        self._ready: Callable[[], bool] = lambda: True
        self._given, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._running = self._ended = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, args=(work,), name=name, daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether it can go on: it waits for nothing, or what it waits for is there."""
        return not self.over and self._ready()

    def take(self) -> None:
        """Let it run until it waits, or is over.

        Raises:
            BaseException: what its work raised.
        """
        self._running = True
        self._given.release()
        self._return()

    def wait(self, ready: Callable[[], bool]) -> None:
        """In its thread: give the turn back until something is the case.

        Raises:
            Ended: if it shall end.
        """
        self.check()
        if ready():
            return
        self._ready = ready
        self._back.release()
        self._given.acquire()
        self.check()

    def check(self) -> None:
        """In its thread: go on only if it shall.

        Raises:
            Ended: if it shall end.
        """
        if self._ended:
            raise Ended

    def end(self, patience: float = 20.0) -> None:
        """Have it clean up and end, at the next `wait` or `check`.

        Args:
            patience: seconds to wait for that; after them it is left to end with the process.
        """
        self._ended = True
        if self._running:  # `take` was interrupted
            self._return(patience)
        if not self._running and not self.over:
            self._running = True
            self._given.release()
            self._return(patience)

    def _return(self, patience: float | None = None) -> None:
        if not self._back.acquire(timeout=patience):
            return
        self._running = False
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _run(self, work: "Callable[[Turn], None]") -> None:
        self._given.acquire()
        try:
            self.check()
            work(self)
        except Ended:
            pass
        except BaseException as error:  # raised again where it is conducted
            self._failure = error
        finally:
            self.over = True
            self._back.release()
