"""Starts a worker for a lane of the queue of runs, whenever something waits there and nobody works on it."""

import asyncio
import contextlib
import logging
import signal
import subprocess
import sys
import threading

from shopfit.runs import LANES, Lane, waiting
from shopfit.runs.worker import is_worked_on
from shopfit.settings import Settings

logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two looks at the queue
_PATIENCE = 30.0  # seconds that runs have to save what they did when the gateway ends


class RunWorkers:
    """Workers of this gateway. For the event loop.

    A gateway that ends has its workers end, too: what they worked on is saved, and goes on when a gateway starts.

    Args:
        settings: where the runs are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers: dict[Lane, subprocess.Popen[bytes]] = {}
        self._task: asyncio.Task[None] | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Look after the queue from now on."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Look after it no more, and have the workers end."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await asyncio.to_thread(self._end)

    async def wake(self) -> None:
        """Look at the queue now, as when something was just queued."""
        await asyncio.to_thread(self._look)

    async def _follow(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._look)
            except Exception:  # the queue waits; requests are answered all the same
                logger.exception("the queue of runs could not be looked at")
            await asyncio.sleep(_EVERY)

    def _look(self) -> None:
        with self._starting:
            for lane in LANES:
                worker = self._workers.get(lane)
                if worker is not None and worker.poll() is None:
                    continue
                if waiting(self._settings.home, lane) and not is_worked_on(self._settings.home, lane):
                    self._workers[lane] = self._worker(lane)

    def _worker(self, lane: Lane) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "shopfit", "run", "work", "--lane", lane]
        return subprocess.Popen(
            command,
            env=self._settings.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _end(self) -> None:
        with self._starting:
            under_way = [worker for worker in self._workers.values() if worker.poll() is None]
            for worker in under_way:
                worker.send_signal(signal.SIGTERM)
            for worker in under_way:
                try:
                    worker.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    worker.kill()
