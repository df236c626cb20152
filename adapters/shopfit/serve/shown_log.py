"""The log of what was shown: which version showed what to whom, in which place, and how probably it did.

Off unless a place is named for it. Nothing waits for it: answers are gathered in memory, written by another thread, and
dropped if there are too many.
"""

import asyncio
import contextlib

from shopfit.serve.metrics import Metrics
from shopfit.serve.shown_answer import ShownAnswer
from shopfit.serve.shown_store import ShownStore

_MOST_ROWS = 50_000  # in memory; more are dropped
_MANY_ROWS = 5_000  # that are written without waiting for more
_SECONDS = 30.0  # that rows wait for more


class ShownLog:
    """Gathers what was shown, and has it written. For the event loop.

    Args:
        store: that it is written to.
        metrics: that count rows.
        texts: whether prompts and generated texts are kept, too.
    """

    def __init__(self, store: ShownStore, metrics: Metrics, *, texts: bool) -> None:
        self._store = store
        self._metrics = metrics
        self._texts = texts
        self._waiting: list[ShownAnswer] = []
        self._rows = 0  # of those that wait or are being written
        self._many = asyncio.Event()
        self._ending = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def add(self, shown: ShownAnswer) -> None:
        """Have an answer written, later; or drop it, if too much waits already."""
        count = shown.count
        if self._rows + count > _MOST_ROWS:
            self._metrics.shown("dropped", count)
            return
        self._waiting.append(shown)
        self._rows += count
        if self._rows >= _MANY_ROWS:
            self._many.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Write what waits; what cannot be written now is dropped."""
        self._ending.set()
        self._many.set()
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            await _wait(self._many)
            if not self._ending.is_set():
                self._many.clear()
            taken, self._waiting = self._waiting, []
            failed = await asyncio.to_thread(self._store.write, taken, texts=self._texts)
            rows, lost = sum(one.count for one in taken), sum(one.count for one in failed)
            self._metrics.shown("written", rows - lost)
            self._rows -= rows - lost
            if failed and self._ending.is_set():
                self._metrics.shown("dropped", lost)
            elif failed:
                self._waiting = failed + self._waiting
                await _wait(self._ending)


async def _wait(event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), _SECONDS)
