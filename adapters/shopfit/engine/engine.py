"""The engine: one base, and the adapter each request names.

Callers' threads write prompts, loader threads bring adapters, and one thread runs the model for all of them.
"""

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base, load_base
from shopfit.engine.jobs import Job
from shopfit.engine.library import Library
from shopfit.engine.memory import HostMemory, Loaded
from shopfit.engine.pool import SlotPool
from shopfit.engine.preparing import Preparer
from shopfit.engine.requests import (
    Adapter,
    Answer,
    ChooseAnswer,
    ChooseRequest,
    GenerateAnswer,
    GenerateRequest,
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    Request,
)
from shopfit.engine.scheduler import Scheduler
from shopfit.errors import Overloaded
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.search import Embed
from shopfit.recipe.schema import Rules
from shopfit.registry import Registry
from shopfit.settings import Settings

_GB = 1024**3


@dataclass(frozen=True, slots=True)
class Status:
    """What an engine holds.

    Args:
        waiting: rows that wait for a forward.
        writing: answers being written.
        resident: adapters in slots.
        swaps: times an adapter was brought into a slot, so far.
        loaded: adapters in host memory.
        memory: bytes they take.
    """

    waiting: int
    writing: int
    resident: int
    swaps: int
    loaded: int
    memory: int


class Engine:
    """Answers requests, each with the adapter it names and no other. Safe for threads.

    Args:
        base: loaded. From the first request on, the engine's own thread runs its model, and nobody else may.
        registry: where references are looked up; without one, requests name bundles or tenants.
        cache: folder that registry bundles are brought to; needed with a registry.
        slots: LoRA adapters beside the base at a time, at least one.
        memory: bytes of adapters kept in host memory.
        rows: answers being written at a time; where several adapters write, each row takes as much memory as a slot.
        queue: requests that may be under way at a time; one more is refused.
        batch_tokens: tokens of new rows a forward. More is a little faster for crowds and slower for each answer that
            is being written meanwhile.
        embed: for recommendations, texts to vectors; None to search by words only.
    """

    def __init__(
        self,
        base: Base,
        *,
        registry: Registry | None = None,
        cache: Path | None = None,
        slots: int = 32,
        memory: int = 2 * _GB,
        rows: int = 32,
        queue: int = 1024,
        batch_tokens: int = 2048,
        embed: Embed | None = None,
    ) -> None:
        self.base = base
        self._room = threading.Semaphore(queue)
        self._queue = queue
        pool = SlotPool(base, slots)
        self._library = Library(base, pool.stack, HostMemory(memory), registry, cache)
        self._preparer = Preparer(base, embed)
        self._scheduler = Scheduler(base, pool, rows=rows, batch_tokens=batch_tokens)
        self.close: Callable[[], object] = weakref.finalize(self, _close, self._library, self._scheduler)
        """End the engine's threads. Requests that are not answered fail."""

    @classmethod
    def load(
        cls,
        base: str,
        *,
        registry: Registry | None = None,
        settings: Settings | None = None,
        quantization: str = "none",
        device: str | None = None,
        encoder: str | None = "minilm-l6",
        **options: Any,
    ) -> "Engine":
        """Load a base and make its engine.

        Args:
            base: packaged base, Hub id or local folder.
            registry: by default the one that `settings` name.
            settings: from the environment by default.
            quantization: "none", "int8" or "nf4".
            device: such as "cpu" or "cuda:0"; the first GPU if there is one by default.
            encoder: searches catalogs by meaning, loaded with the first recommendation; None to search by words only.
            options: `slots`, `memory`, `rows`, `queue` and `batch_tokens`, as the engine takes them.

        Raises:
            BaseError: if the base cannot be loaded.
            RegistryError: if the registry cannot be reached.
        """
        settings = settings or Settings.from_environment()
        registry = registry or Registry.open(settings)
        loaded = load_base(base, settings.home, quantization=quantization, device=device)
        embed = None if encoder is None else LateEmbedder(settings.home, encoder, device=device, remember=False)
        return cls(loaded, registry=registry, cache=settings.cache, embed=embed, **options)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def choose(self, requests: Sequence[ChooseRequest]) -> list[ChooseAnswer]:
        """Choose a label for each request.

        The first request that fails raises, and the others are given up; `submit` lets each fail alone.

        Raises:
            UnknownReference: if a request names no version.
            RequestError: if a request does not fit its adapter's task or names no field of its prompt.
            BaseError: if an adapter belongs to another base.
            BundleError: if an adapter's files are broken.
            RegistryError: if an adapter must be looked up, and the registry cannot be read.
        """
        return cast("list[ChooseAnswer]", self._answers(requests))

    def rank(self, requests: Sequence[RankRequest]) -> list[RankAnswer]:
        """Rank items for each request. Raises as `choose` does."""
        return cast("list[RankAnswer]", self._answers(requests))

    def generate(self, requests: Sequence[GenerateRequest]) -> list[GenerateAnswer]:
        """Generate an answer to each request. Raises as `choose` does."""
        return cast("list[GenerateAnswer]", self._answers(requests))

    def recommend(
        self,
        adapter: Adapter,
        *,
        query: str | None = None,
        history: Sequence[str] = (),
        k: int | None = None,
        rules: Rules | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> RecommendAnswer:
        """Recommend items of the merchant's catalog.

        Args:
            adapter: of a `rank` recipe.
            query: what the shopper types.
            history: ids of items the shopper saw or bought, oldest first.
            k: how many; the recipe's `serve.top` by default.
            rules: the request's own, besides the recipe's.
            fields: any other field of the prompt.

        Raises:
            ShopfitError: as `choose` does.
        """
        known: dict[str, Any] = dict(fields or {})
        if query is not None:
            known["query"] = query
        if history:
            known["history"] = list(history)
        return cast("RecommendAnswer", self._answers([RecommendRequest(adapter, known, k, rules)])[0])

    async def stream(self, request: GenerateRequest, *, timeout: float | None = None) -> AsyncIterator[str]:
        """The answer's text, part by part, as it is written. Leaving the loop ends the answer.

        Args:
            request: what is asked.
            timeout: seconds that the whole answer may take.

        Raises:
            ShopfitError: as `choose` does, when the parts so far have been given.
        """
        loop, parts = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def show(part: str | None) -> None:
            loop.call_soon_threadsafe(parts.put_nowait, part)

        future = self.submit(request, timeout=timeout, show=show)
        future.add_done_callback(lambda _: None if loop.is_closed() else show(None))
        try:
            while (part := await parts.get()) is not None:
                yield part
            future.result()
        finally:
            future.cancel()

    def submit(
        self, request: Request, *, timeout: float | None = None, show: Callable[[str], None] | None = None
    ) -> "Future[Answer]":
        """Ask without waiting. `asyncio.wrap_future` makes the result awaitable.

        Args:
            request: any.
            timeout: seconds after which the answer is not wanted any more.
            show: generate: called on the engine's thread with each part of the text.

        Returns:
            its answer to come, or why there is none. Cancelling it frees what the request holds at once.

        Raises:
            Overloaded: if as many requests are under way as the engine may hold.
        """
        if not self._room.acquire(blocking=False):
            raise Overloaded(
                f"the engine has {self._queue} requests under way, as many as it may hold",
                next_step="try again in a moment, or give it more engines",
            )
        job = self._job(timeout, show)
        if (loaded := self._held(job, request)) is not None:
            self._start(self._filled(job, request, loaded))
        elif not job.future.done():
            self._bring(job, request)
        return job.future

    def prefetch(self, adapters: Iterable[Adapter]) -> None:
        """Bring adapters into host memory, for requests that will come. Returns at once; what cannot be had is left."""
        for adapter in adapters:
            if (loaded := self._library.hold(adapter)) is not None:
                self._library.memory.release(loaded)
            else:
                self._library.bring(
                    adapter, lambda loaded: None if isinstance(loaded, BaseException) else self._release(loaded)
                )

    def status(self) -> Status:
        """What the engine holds at this moment."""
        waiting, writing = self._scheduler.load
        pool, memory = self._scheduler.pool, self._library.memory
        return Status(waiting, writing, pool.resident, pool.swaps, memory.adapters, memory.used)

    def set_catalog(self, merchant: str, catalog: Catalog | None) -> None:
        """Rank and recommend a merchant's items as they are now, and not as its bundles hold them.

        Args:
            merchant: whose.
            catalog: the items, their stock and prices; None goes back to those of the bundles.
        """
        self._preparer.set_catalog(merchant, catalog)

    def _answers(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask all at once and wait. More requests than the engine may hold wait for their turn."""
        futures: list[Future[Answer]] = []
        ready: list[Job] = []

        def start() -> None:
            self._start(ready)
            ready.clear()

        try:
            for request in requests:
                if not self._room.acquire(blocking=False):
                    start()
                    self._room.acquire()
                job = self._job()
                futures.append(job.future)
                loaded = self._held(job, request)
                if loaded is None and not job.future.done() and not isinstance(request.adapter, str):
                    start()  # an adapter that is loaded here may have to wait for room
                    loaded = self._loaded(job, request)
                if loaded is not None:
                    ready += self._filled(job, request, loaded)
                elif not job.future.done():
                    self._bring(job, request)
                if job.future.done():
                    job.future.result()
            start()
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _job(self, timeout: float | None = None, show: Callable[[str], None] | None = None) -> Job:
        expires = float("inf") if timeout is None else time.monotonic() + timeout
        job = Job("", Future(), expires, show=show)
        job.future.add_done_callback(lambda _: self._room.release())
        return job

    def _held(self, job: Job, request: Request) -> Loaded | None:
        return self._got(job, lambda: self._library.hold(request.adapter))

    def _loaded(self, job: Job, request: Request) -> Loaded | None:
        return self._got(job, lambda: self._library.load(request.adapter))

    def _got(self, job: Job, get: Callable[[], Loaded | None]) -> Loaded | None:
        try:
            return get()
        except Exception as error:
            job.fail(error)
            return None

    def _bring(self, job: Job, request: Request) -> None:
        def ready(loaded: Loaded | BaseException) -> None:
            if isinstance(loaded, BaseException):
                job.fail(loaded)
            else:
                self._start(self._filled(job, request, loaded))

        try:
            if job.expires < float("inf"):
                self._scheduler.watch(job)
            self._library.bring(request.adapter, ready)
        except Exception as error:
            job.fail(error)

    def _filled(self, job: Job, request: Request, loaded: Loaded) -> list[Job]:
        """The job ready to run, or none if it failed or is over; whenever it ends, its adapter is let go."""
        job.future.add_done_callback(lambda _: self._release(loaded))
        if job.over:
            return []
        try:
            self._preparer.fill(job, request, loaded)
        except Exception as error:
            job.fail(error)
            return []
        if not job.questions and job.line is None:
            job.finish([])  # nothing to rank
            return []
        return [job]

    def _start(self, jobs: Sequence[Job]) -> None:
        try:
            if jobs:
                self._scheduler.add(jobs)
        except Exception as error:
            for job in jobs:
                job.fail(error)

    def _release(self, loaded: Loaded) -> None:
        self._library.memory.release(loaded)


def _close(library: Library, scheduler: Scheduler) -> None:
    library.close()
    scheduler.stop()
