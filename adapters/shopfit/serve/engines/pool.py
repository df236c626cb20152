"""All engines of a gateway: one a base, started when an adapter needs it, and again whenever it ends."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shopfit.errors import EngineEnded, Overloaded, ShopfitError
from shopfit.serve.engines.process import EngineProcess, Spend
from shopfit.serve.options import ServeOptions

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0  # seconds before an engine that ended is started again
_LOOK = 5.0  # seconds between looks at an engine that is busy
_LEAST_PATIENCE = 10.0  # seconds that an engine has to say what it holds, however little an answer may take
_WARMED = 64  # adapters that a restarted engine loads at once: those asked last


class BaseKey(NamedTuple):
    """What one engine process has loaded.

    Args:
        name: of the base.
        quantization: "none", "int8" or "nf4".
    """

    name: str
    quantization: str

    @property
    def label(self) -> str:
        """Both, before anybody."""
        return f"{public_name(self.name)}:{self.quantization}"


def public_name(base: str) -> str:
    """A base's name before anybody: of a folder its own name alone, and not where it lies."""
    return Path(base).name if base.startswith(("/", ".", "~")) else base


class Supervised:
    """The engine of one base, whichever process it is now.

    Args:
        base: that it loads.
        settings: of the process; see `EngineProcess.start`.
        options: of the gateway. `queue` is how many requests may wait while it starts; one that has not loaded its
            base after `load_timeout`, or while it has requests does not say what it holds within `timeout`, is ended.
    """

    def __init__(self, base: BaseKey, settings: Mapping[str, Any], options: ServeOptions) -> None:
        self.base = base
        self.starts = 0
        self._settings = settings
        self._most = options.queue
        self._load_timeout = options.load_timeout
        self._patience = max(options.timeout, _LEAST_PATIENCE)
        self._process: EngineProcess | None = None
        self._failed: ShopfitError | None = None
        self._changed = asyncio.Event()
        self._waiting = 0
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._task = asyncio.create_task(self._keep_running())

    @property
    def running(self) -> EngineProcess | None:
        """The process, if it is ready."""
        return self._process

    @property
    def settled(self) -> bool:
        """Whether it has run, or could not be started."""
        return self.starts > 0 or self._failed is not None

    @property
    def under_way(self) -> int:
        """Requests that it has not answered, those that wait for its start included."""
        return self._waiting + (0 if self._process is None else self._process.under_way)

    async def ready(self, patience: float) -> EngineProcess:
        """The process, once it has loaded its base.

        Args:
            patience: seconds to wait for that.

        Raises:
            Overloaded: if too many wait for it already.
            EngineEnded: if it takes longer.
            ShopfitError: why it cannot be started.
        """
        if self._process is not None:
            return self._process
        if self._waiting >= self._most:
            raise Overloaded(
                f"the engine that answers is being started, and {self._waiting} requests wait for it",
                next_step="try again in a moment",
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(patience):
                while (process := self.running) is None:
                    if self._failed is not None:  # told as another one each time: each gets a traceback of its own
                        raise ShopfitError.from_document(self._failed.document())
                    await self._changed.wait()
            return process
        except TimeoutError as error:
            if isinstance(error, ShopfitError):
                raise
            raise EngineEnded(
                "the engine that answers is still being started", next_step="send the request again in a moment"
            ) from None
        finally:
            self._waiting -= 1

    async def ask(self, message: Mapping[str, Any], spend: Spend | None = None) -> Any:
        """Ask the process; takes and raises what `EngineProcess.ask` does, and raises as `ready`."""
        process = await self.ready(message["timeout"])
        self._note(message["adapter"])
        return await process.ask(message, spend)

    async def stream(self, message: Mapping[str, Any], spend: Spend | None = None) -> AsyncGenerator[tuple[str, Any]]:
        """Ask the process for a text as it is written; as `EngineProcess.stream`, and raises as `ready`."""
        process = await self.ready(message["timeout"])
        self._note(message["adapter"])
        async with contextlib.aclosing(process.stream(message, spend)) as parts:
            async for part in parts:
                yield part

    async def close(self) -> None:
        """End the process, and start it no more."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._process is not None:
            await self._process.close()

    async def give_up(self, error: EngineEnded) -> None:
        """End the process at once, and start it no more; requests that it has not answered get `error`."""
        self._task.cancel()
        self._failed, process, self._process = error, self._process, None
        self._tell()
        if process is not None:
            await process.give_up(error)

    def _note(self, adapter: str) -> None:
        self._recent[adapter] = None
        self._recent.move_to_end(adapter)
        if len(self._recent) > _WARMED:
            self._recent.popitem(last=False)

    async def _keep_running(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            logger.info("the engine of %s is starting", self.base.name)
            try:
                process = await EngineProcess.start(self._settings, self._load_timeout)
            except Exception as error:
                logger.exception("the engine of %s could not be started; again in %s s", self.base.name, pause)
                self._failed = error if isinstance(error, ShopfitError) else _unstarted(error)
                self._tell()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self.starts += 1
            self._failed, self._process = None, process
            process.warm(list(self._recent))
            self._tell()
            logger.info("the engine of %s is ready: process %s", self.base.name, process.number)
            try:
                began = asyncio.get_running_loop().time()
                await self._watch(process)
                if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
            finally:
                if process.ended.is_set():
                    self._process = None
            logger.error("the engine of %s ended: process %s", self.base.name, process.number)
            self._tell()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _watch(self, process: EngineProcess) -> None:
        """Wait until a process has ended, and end it if it hangs: nobody else would ever see that."""
        while not process.ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.ended.wait(), _LOOK)
            if process.ended.is_set() or not process.under_way:
                continue
            try:
                async with asyncio.timeout(self._patience):
                    await process.status()
            except TimeoutError:
                logger.error("the engine of %s hangs, and is killed: process %s", self.base.name, process.number)
                await process.kill()
                await process.ended.wait()
            except ShopfitError:  # it has ended meanwhile, or will be asked again
                continue

    def _tell(self) -> None:
        """Wake who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


class EnginePool:
    """The engines of a gateway, by base.

    Args:
        settings: of every process but for its base: `home`, `registry`, `blobs`, `threads`, `upstream`, `options`.
        options: of the gateway; see `Supervised`.
    """

    def __init__(self, settings: Mapping[str, Any], options: ServeOptions) -> None:
        self._settings = settings
        self._options = options
        self._engines: dict[BaseKey, Supervised] = {}

    def of(self, base: BaseKey) -> Supervised:
        """The engine of a base; started now if no adapter needed it before."""
        if (engine := self._engines.get(base)) is None:
            settings = {**self._settings, "base": base.name, "quantization": base.quantization}
            engine = self._engines[base] = Supervised(base, settings, self._options)
        return engine

    @property
    def engines(self) -> list[Supervised]:
        """Those that were needed so far."""
        return list(self._engines.values())

    async def give_up(self, error: EngineEnded) -> None:
        """End all processes at once; requests that they have not answered get `error`."""
        await asyncio.gather(*(engine.give_up(error) for engine in self._engines.values()))

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))


def _unstarted(error: Exception) -> EngineEnded:
    return EngineEnded(
        f"the engine that answers cannot be started ({type(error).__name__}), and is tried again",
        next_step="send the request again in a moment",
    )
