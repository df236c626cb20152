"""One engine process, as the gateway sees it: what it is asked, and what comes back."""

import asyncio
import itertools
import multiprocessing
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from shopfit.errors import EngineEnded, ShopfitError
from shopfit.serve.engines import worker
from shopfit.serve.engines.frames import FrameProtocol, Message

_PATIENCE = 5.0  # seconds that a process has to end by itself

# engines are forked from a process that has imported what they need, so that one that ended is back in a second
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["shopfit.serve.engines.preloaded"])
_STARTING = ThreadPoolExecutor(1, "shopfit-engine-start")

Spend = Callable[[int, int], None]
"""Called with tokens that were read and written since it was called before, also when whoever asked has gone."""


@dataclass(slots=True)
class _Asked:
    """What waits for the replies to one message: the last one completes `answer`, parts before it go to `parts`."""

    answer: asyncio.Future[Any]
    spend: Spend | None = None
    parts: "asyncio.Queue[Any] | None" = None
    read: int = 0
    written: int = 0

    def count(self, message: Message) -> None:
        """Tell what a reply says of tokens."""
        read, written = message.get("read", self.read), message.get("written", self.written)
        if self.spend is not None and (read, written) != (self.read, self.written):
            self.spend(read - self.read, written - self.written)
        self.read, self.written = read, written


class EngineProcess:
    """A running engine process. `start` makes it.

    Args:
        process: that runs.

    Attributes:
        fingerprint: of the base it has loaded.
        ended: set when it has ended, for whatever reason.
    """

    def __init__(self, process: BaseProcess) -> None:
        self.fingerprint = ""
        self.ended = asyncio.Event()
        self._process = process
        self._frames: FrameProtocol | None = None
        self._asked: dict[int, _Asked] = {}
        self._cancelled: dict[int, _Asked] = {}  # whose last reply has not come
        self._numbers = itertools.count(1)
        self._ending: asyncio.Task[None] | None = None
        self._looks = 0  # questions of the gateway's own among those asked

    @classmethod
    async def start(cls, settings: Mapping[str, Any], patience: float) -> "EngineProcess":
        """Start a process, and wait until it has loaded its base.

        Args:
            settings: `home`, `registry`, `blobs`, `base`, `quantization`, `threads`, `upstream`, and `options`.
            patience: seconds to wait; then it is ended.

        Raises:
            ShopfitError: why the base could not be loaded.
            EngineEnded: if the process ended before it had, or it took longer.
        """
        try:
            async with asyncio.timeout(patience) as limit:
                return await cls._start(settings)
        except TimeoutError:
            if not limit.expired():
                raise
            raise EngineEnded(
                f"the engine that answers did not load its base in {patience:g} seconds, and is started again",
                next_step="send the request again in a moment",
            ) from None

    @classmethod
    async def _start(cls, settings: Mapping[str, Any]) -> "EngineProcess":
        own, its = socket.socketpair()
        process = FORKS.Process(target=worker.main, args=(its,), name="shopfit-engine", daemon=True)

        def start() -> None:
            with its:  # open until it is handed over, though nobody waits for that any more: its number may be reused
                process.start()

        try:
            # the first one waits until all is imported; if that hangs, so does this thread, and no other
            await asyncio.get_running_loop().run_in_executor(_STARTING, start)
        except BaseException:
            own.close()
            raise
        engine = cls(process)
        try:
            engine._frames = await FrameProtocol.connect(own, engine._reply, engine._closed)
            engine.fingerprint = (await engine.ask(settings))["fingerprint"]
        except BaseException:
            await engine.kill()
            raise
        return engine

    @property
    def number(self) -> int:
        """Of the process, as the system knows it."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def under_way(self) -> int:
        """Requests that it has not answered."""
        return len(self._asked) - self._looks

    async def ask(self, message: Mapping[str, Any], spend: Spend | None = None) -> Any:
        """Ask, and wait for the answer. If the caller is cancelled, so is the request.

        Args:
            message: as `EngineServer` takes it.
            spend: told of its tokens, whatever becomes of it.

        Raises:
            ShopfitError: what the engine says is wrong with the request.
            EngineEnded: if the process ends before it has answered.
        """
        number, asked = self._begin(message, spend)
        try:
            return await asked.answer
        finally:
            self._end(number)

    async def stream(self, message: Mapping[str, Any], spend: Spend | None = None) -> AsyncGenerator[tuple[str, Any]]:
        """Ask for a text as it is written. Yields ("part", text or tokens) and last ("answer", the whole).

        Takes and raises what `ask` does, after the parts so far.
        """
        parts: asyncio.Queue[Any] = asyncio.Queue()
        number, asked = self._begin({**message, "stream": True}, spend, parts)
        try:
            while (part := await parts.get()) is not None:
                yield "part", part
            yield "answer", await asked.answer
        finally:
            self._end(number)

    def warm(self, adapters: list[str]) -> None:
        """Load adapters into its memory before they are asked."""
        if adapters:
            self._send({"do": "warm", "adapters": adapters})

    async def status(self) -> dict[str, Any]:
        """What the engine holds; see `shopfit.engine.Status`."""
        self._looks += 1
        try:
            answer: dict[str, Any] = await self.ask({"do": "status"})
        finally:
            self._looks -= 1
        return answer

    async def close(self) -> None:
        """Let it end: its socket is closed, and it is killed if it has not ended a few seconds later."""
        self._hang_up()
        await asyncio.to_thread(self._process.join, _PATIENCE)
        await self.kill()

    async def give_up(self, error: EngineEnded) -> None:
        """End it at once; what it was asked gets `error` for an answer."""
        for asked in list(self._asked.values()):
            _settle(asked, error)
        await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        self._hang_up()
        self._process.kill()
        await asyncio.to_thread(self._process.join, _PATIENCE)  # one that waits for a dead disk ends when that answers

    def _begin(
        self, message: Mapping[str, Any], spend: Spend | None, parts: "asyncio.Queue[Any] | None" = None
    ) -> tuple[int, _Asked]:
        if self.ended.is_set():
            raise _ended()
        number = next(self._numbers)
        asked = _Asked(asyncio.get_running_loop().create_future(), spend, parts)
        self._asked[number] = asked
        try:
            self._send({"id": number, **message})
        except BaseException:
            del self._asked[number]
            raise
        return number, asked

    def _end(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if not asked.answer.done():
            asked.answer.cancel()
            if not self.ended.is_set():
                self._cancelled[number] = asked
                self._send({"do": "cancel", "id": number})

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._frames is not None
        self._frames.send(message)

    def _hang_up(self) -> None:
        if self._frames is not None:
            self._frames.close()

    def _closed(self) -> None:
        self._ending = asyncio.create_task(self._end_all())

    async def _end_all(self) -> None:
        await self.close()
        status = self._process.exitcode or 0
        error = _ended(f" ({f'signal {-status}' if status < 0 else f'status {status}'})")
        self.ended.set()
        self._cancelled.clear()
        for asked in list(self._asked.values()):
            _settle(asked, error)

    def _reply(self, message: Message) -> None:
        number = message.get("id", 0)
        asked = self._asked.get(number) or self._cancelled.get(number)
        if asked is None:
            return
        asked.count(message)
        if number in self._cancelled:
            if "part" not in message:
                del self._cancelled[number]
        elif "part" in message:
            assert asked.parts is not None
            asked.parts.put_nowait(message["part"])
        elif "error" in message:
            _settle(asked, ShopfitError.from_document(message["error"]))
        else:
            _settle(asked, message["answer"])


def _settle(asked: _Asked, result: Any) -> None:
    if not asked.answer.done():
        if isinstance(result, Exception):
            asked.answer.set_exception(result)
        else:
            asked.answer.set_result(result)
    if asked.parts is not None:
        asked.parts.put_nowait(None)


def _ended(why: str = "") -> EngineEnded:
    return EngineEnded(
        f"the engine that answered ended{why}, and is being started again",
        next_step="send the request again in a moment",
    )
