"""A thread pool that is fair to merchants.

Each merchant has a queue of its own. Queues take turns, and no merchant has more than `each` threads at a time, so that
threads are left for the others however many tasks one submits, and however long they run.
"""

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from shopfit.errors import EngineEnded

logger = logging.getLogger(__name__)

_IDLE = 10.0  # seconds until a thread without work ends

Task = Callable[[], object]


class Workers:
    """Runs tasks off the caller's thread.

    Args:
        name: prefix of the threads' names.
        each: threads that one merchant may have at a time.
        most: threads at a time.
    """

    def __init__(self, name: str, *, each: int, most: int) -> None:
        self._name = name
        self._each = each
        self._most = most
        self._lanes: OrderedDict[str, deque[Task]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._waiting = 0
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._news = threading.Condition()

    def waiting(self, merchant: str) -> int:
        """Tasks of a merchant that no thread has begun."""
        with self._news:
            return len(self._lanes.get(merchant, ()))

    def submit(self, merchant: str, task: Task) -> None:
        """Run a task when it is the merchant's turn. Its exception is logged and dropped.

        Raises:
            EngineEnded: if `close` was called.
        """
        with self._news:
            if self._closed:
                raise closed()
            self._lanes.setdefault(merchant, deque()).append(task)
            self._waiting += 1
            if self._waiting > self._idle and self._threads < self._most and self._running[merchant] < self._each:
                self._threads += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            else:
                self._news.notify()

    def close(self) -> None:
        """Begin no more tasks; running ones end by themselves."""
        with self._news:
            self._closed = True
            self._waiting = 0
            self._lanes.clear()
            self._news.notify_all()

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            merchant, task = turn
            try:
                task()
            except BaseException:  # no task may end the shared thread
                logger.exception("a task of merchant %s failed", merchant)
            finally:
                del task, turn  # an idle thread must not keep a dropped engine alive
                with self._news:
                    self._running[merchant] -= 1
                    if not self._running[merchant]:
                        del self._running[merchant]
                    if merchant in self._lanes:
                        self._news.notify()

    def _next(self) -> tuple[str, Task] | None:
        """The next task of a merchant that may have one more thread; None to end."""
        with self._news:
            while not self._closed:
                for merchant, lane in self._lanes.items():
                    if self._running[merchant] < self._each:
                        task = lane.popleft()
                        if lane:
                            self._lanes.move_to_end(merchant)
                        else:
                            del self._lanes[merchant]
                        self._waiting -= 1
                        self._running[merchant] += 1
                        return merchant, task
                self._idle += 1
                worked = self._news.wait(_IDLE)
                self._idle -= 1
                if not worked and not self._lanes:
                    break
            self._threads -= 1
            return None


def closed() -> EngineEnded:
    """The error of requests to a closed engine."""
    return EngineEnded("this engine is closed", next_step="load a new one")
