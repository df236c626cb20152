"""Threads that ask the registry, so that the event loop never waits for a database."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
P = ParamSpec("P")

_THREADS = 8
_LONG = 2  # calls that take seconds, at a time
_FILES = 4  # calls that read or write merchants' files, at a time


class RegistryThreads:
    """Runs calls that may block. For the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "shopfit-registry")
        self._long = ThreadPoolExecutor(_LONG, "shopfit-registry-long")
        self._files = ThreadPoolExecutor(_FILES, "shopfit-files")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._asked: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """The result of a call on another thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*arguments, **options))

    async def run_long(self, merchant: str, call: Callable[[], T]) -> T:
        """The result of a call that may take seconds: a merchant's one after another, and few at a time of all.

        So they delay no short one, and many of one merchant delay no other's for long.
        """
        turn = self._turns.setdefault(merchant, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._long, call)

    async def run_files(self, merchant: str, call: Callable[..., T], /, *arguments: Any) -> T:
        """The result of a call that reads or writes a merchant's files: one after another of each merchant.

        No look-up of a key waits behind it, whatever the files hold.
        """
        turn = self._turns.setdefault(f"{merchant} files", asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._files, lambda: call(*arguments))

    async def once(self, key: Hashable, call: Callable[[], T]) -> T:
        """The result of a call; those who ask for the same key meanwhile get the same result."""
        future = self._asked.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._asked[key] = loop.run_in_executor(self._threads, call)
            future.add_done_callback(lambda _: self._asked.pop(key, None))
        result: T = await asyncio.shield(future)
        return result

    def close(self) -> None:
        """Start no more calls."""
        for threads in (self._threads, self._long, self._files):
            threads.shutdown(wait=False, cancel_futures=True)
