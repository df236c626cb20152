"""The processes that read and write catalogs for a gateway: started when one is needed, ended when none is for a while.

Parsing and checking a hundred thousand items takes seconds of Python, in which no other thread of the same process
answers anything in time.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

from shopfit.errors import EngineEnded, ShopfitError
from shopfit.serve import catalog_worker
from shopfit.serve.engines.frames import ContentSocket
from shopfit.serve.engines.process import FORKS
from shopfit.serve.registry_threads import RegistryThreads

logger = logging.getLogger(__name__)

_IDLE = 60.0  # seconds that a process stays that has nothing to do


class CatalogProcesses:
    """Works on catalogs in other processes: of one merchant one after another, and few at a time of all.

    Args:
        places: of the registry: `home`, `registry` and `blobs`.
        threads: that wait for the processes.
    """

    def __init__(self, places: Mapping[str, str], threads: RegistryThreads) -> None:
        self._places = places
        self._threads = threads
        self._idle: list[_CatalogProcess] = []
        self._lock = threading.Lock()
        self._ending: asyncio.TimerHandle | None = None

    async def change(self, do: Literal["put", "patch"], merchant: str, body: bytes, *, actor: str) -> dict[str, Any]:
        """Replace a merchant's catalog, or change items of it.

        Args:
            do: which of both.
            merchant: its name, as it was sent.
            body: of the request.
            actor: who does, for the audit.

        Returns:
            what is told of the catalog.

        Raises:
            ShopfitError: as `Registry.put_catalog` and `Registry.patch_catalog` do.
            RequestError: if the body is not JSON, or holds something else.
            EngineEnded: if the process ended meanwhile; it is not known what it did.
        """
        reply, _ = await self._ask({"do": do, "merchant": merchant, "actor": actor}, body)
        state: dict[str, Any] = reply["state"]
        return state

    async def show(self, merchant: str) -> bytes:
        """A merchant's catalog with its items, as JSON; raises as `Registry.catalog` does.

        Raises:
            UnknownCatalog: if there is none.
        """
        _, content = await self._ask({"do": "show", "merchant": merchant}, b"")
        return content

    async def close(self) -> None:
        """End the processes that have nothing to do; the others end with the gateway."""
        if self._ending is not None:
            self._ending.cancel()
        await asyncio.to_thread(self._end_idle, 0.0)

    async def _ask(self, message: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(_IDLE, self._look)
        return await self._threads.run_long(message["merchant"], lambda: self._work(message, body))

    def _look(self) -> None:
        """End what has had nothing to do for a while, and look again later if there is more."""
        loop = asyncio.get_running_loop()
        self._ending = loop.call_later(_IDLE, self._look) if self._idle else None
        loop.run_in_executor(None, self._end_idle, _IDLE)

    def _work(self, message: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        process = self._waiting() or _CatalogProcess(self._places)
        try:
            answer = process.ask(message, body)
        except BaseException:
            process.end()
            raise
        with self._lock:
            self._idle.append(process)
        reply, _ = answer
        if "error" in reply:
            raise ShopfitError.from_document(reply["error"]) from (_CauseError() if reply["cause"] else None)
        return answer

    def _waiting(self) -> "_CatalogProcess | None":
        """One that has nothing to do, and lives."""
        with self._lock:
            while self._idle:
                if (process := self._idle.pop()).lives:
                    return process
                process.end()
        return None

    def _end_idle(self, seconds: float) -> None:
        with self._lock:
            gone = [one for one in self._idle if time.monotonic() - one.asked >= seconds]
            self._idle = [one for one in self._idle if one not in gone]
        for process in gone:
            process.end()


class _CauseError(Exception):
    """Stands for the error of a database or a disk, which only the other process's log tells."""


class _CatalogProcess:
    """One process, as the threads that ask it see it.

    Attributes:
        asked: `time.monotonic()` when it was asked last.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        own, its = socket.socketpair()
        with its:
            self._process = FORKS.Process(target=catalog_worker.main, args=(its,), name="shopfit-catalogs", daemon=True)
            self._process.start()
        logger.info("catalogs are worked on: process %s", self._process.pid)
        self._frames = ContentSocket(own)
        self._frames.send(places)
        self.asked = time.monotonic()

    def ask(self, message: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Its reply, and what comes behind that.

        Raises:
            EngineEnded: if there is none.
        """
        self._frames.send(message, body)
        answer = self._frames.receive()
        if answer is None:
            raise EngineEnded(
                "the process that works on catalogs ended", next_step="see which catalog there is, and send it again"
            )
        self.asked = time.monotonic()
        return answer

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""
        return self._process.is_alive()

    def end(self) -> None:
        """Let it end."""
        self._frames.close()
        self._process.join()
