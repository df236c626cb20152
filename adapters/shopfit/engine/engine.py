"""The engine: one base, and for each request the adapter that it names.

Worker threads render prompts and build indexes, loader threads load adapters, callback threads deliver answers, and one
serving thread runs the model. Each of these resources is shared equally between merchants.
"""

import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from shopfit.adapter.stack import MAX_RANK
from shopfit.base.embed import late_embedder
from shopfit.base.load import Base, load_base
from shopfit.base.placement import DeviceMap
from shopfit.engine.adapter_cache import AdapterCache
from shopfit.engine.adapter_loader import AdapterLoader
from shopfit.engine.delivery import AnswerFuture, Done, OrderedCalls, Parts, Show, failed, streamed
from shopfit.engine.fair_thread_pool import Workers
from shopfit.engine.intake import Intake, forgetting
from shopfit.engine.jobs import Job, Ticket
from shopfit.engine.quota import Shares
from shopfit.engine.request_compilation import Compiler, request_for
from shopfit.engine.scheduler import Scheduler
from shopfit.engine.slot_pool import SlotPool
from shopfit.engine.status import Status
from shopfit.engine.validation import asked, check_sizes, merchant_asking, merchant_of, seconds_of
from shopfit.errors import Overloaded, RequestError, ShopfitError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.search import Embed
from shopfit.recipe.item_rules import Rules
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tasks.choose import ChooseAnswer, ChooseRequest
from shopfit.tasks.embeddings import EmbedAnswer, EmbedRequest
from shopfit.tasks.generate import GenerateAnswer, GenerateRequest
from shopfit.tasks.rank_answers import RankAnswer, RankRequest, RecommendAnswer, RecommendRequest
from shopfit.tasks.rate import RateAnswer, RateRequest
from shopfit.tasks.requests import Answer, Request, TokenUsage
from shopfit.tasks.tenant import Adapter

if TYPE_CHECKING:
    from concurrent.futures import Future

_PREFETCHED = 256  # prefetched adapters of one merchant that may wait to be loaded


class Engine:
    """Answers requests, each with the adapter it names and no other. Thread-safe.

    Args:
        base: loaded. From the first request on, only the engine's serving thread may run its model.
        registry: where references are looked up; without one, requests name bundles or tenants.
        cache: folder that registry bundles are downloaded to; needed with a registry.
        slots: LoRA adapters on the device at a time, at least one.
        max_rank: of an adapter; requests for one of a higher rank fail. All slots have the rank of the largest adapter
            in them.
        memory: bytes of adapters cached in host memory; up to twice as many while one merchant fills it and others ask.
        disk: bytes of adapters kept in `cache` as slots hold them, so that they load faster a second time; the least
            recently used leave first, and with 1 none is kept.
        rows: answers decoded at a time; with several adapters in a batch, each row takes as much memory as a slot.
        queue: unanswered requests at a time; one more is refused. A merchant below its share of them is admitted all
            the same, up to twice as many in all.
        batch_tokens: prefill and scoring tokens a forward. More raises throughput a little, and slows the answers that
            are being decoded meanwhile.
        embed: embeds texts, for recommendations; None to search by words only.

    Raises:
        RequestError: if a size is no whole number, or less than 1.
    """

    def __init__(
        self,
        base: Base,
        *,
        registry: Registry | None = None,
        cache: Path | None = None,
        slots: int = 32,
        max_rank: int = MAX_RANK,
        memory: int = 2 * 1024**3,
        disk: int = 8 * 1024**3,
        rows: int = 32,
        queue: int = 1024,
        batch_tokens: int = 2048,
        embed: Embed | None = None,
    ) -> None:
        check_sizes(slots=slots, max_rank=max_rank, memory=memory, disk=disk)
        check_sizes(rows=rows, queue=queue, batch_tokens=batch_tokens)
        self.base = base
        self._process = os.getpid()
        self._room = Shares(queue)
        pool = SlotPool(base, slots, max_rank)
        self._scheduler = Scheduler(base, pool, rows=rows, batch_tokens=batch_tokens)
        self._compiler = Compiler(base, embed)
        gone, kept = forgetting(self._compiler, self._scheduler), AdapterCache(memory)
        erased, keeps = self._compiler.erase, self._compiler.keeps
        self._loader = AdapterLoader(base, pool.stack, kept, registry, cache, disk, gone, erased, keeps)
        self._intake = Intake(self._loader, self._compiler, self._scheduler)
        self._callbacks = Workers("shopfit-teller", each=4, most=64)
        self.close: Callable[[], object] = weakref.finalize(
            self, _close, self._loader, self._compiler, self._intake, self._scheduler, self._callbacks
        )
        """Stop the engine's threads. Unanswered requests fail."""

    @classmethod
    def load(
        cls,
        base: str,
        *,
        registry: Registry | None = None,
        settings: Settings | None = None,
        quantization: str = "none",
        device: str | None = None,
        dtype: str = "auto",
        device_map: DeviceMap | None = None,
        encoder: str | None = "auto",
        **options: Any,
    ) -> "Engine":
        """Load a base, and make an engine for it.

        Args:
            base: packaged base, Hub id or local folder.
            registry: by default the one that `settings` name.
            settings: from the environment by default.
            quantization, device, dtype, device_map: as `load_base` takes them. The first adapter that was evaluated in
                another dtype or quantization is logged.
            encoder: for dense retrieval, loaded with the first recommendation; "auto" is that of each adapter's recipe;
                None to search by words only.
            options: `slots`, `max_rank`, `memory`, `disk`, `rows`, `queue` and `batch_tokens`, as for the engine.

        Raises:
            RequestError: if an option is unknown, or no whole number of 1 or more; before anything is loaded.
            BaseError: if the base cannot be loaded.
            RegistryError: if the registry cannot be reached.
        """
        check_sizes(**options)
        settings = settings or Settings.from_environment()
        registry = registry or Registry.open(settings)
        own = load_base(
            base, settings.home, quantization=quantization, device=device, dtype=dtype, device_map=device_map
        )
        embed = None if encoder is None else late_embedder(settings.home, encoder, device)
        return cls(own, registry=registry, cache=settings.cache, embed=embed, **options)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, adapter: Adapter, fields: Mapping[str, Any], **options: Any) -> Answer:
        """Answer one request, whatever the adapter's task is. The adapter is loaded to find out its task.

        Args:
            adapter: that answers.
            fields: what the recipe's prompt shows, by name.
            options: of the task's request, such as `top` of a `RankRequest`.

        Raises:
            RequestError: if the task's request has no such option, and as `choose` does.
            ShopfitError: as `choose` does.
        """
        self._check_process()
        merchant_of(adapter)
        loaded = self._loader.hold(adapter) or self._loader.load(adapter)
        try:  # held until it has answered, or it might have to be loaded a second time
            return self.answer([request_for(loaded.tenant.recipe.task, adapter, fields, options)])[0]
        finally:
            self._loader.let_go(loaded)

    def choose(self, requests: Sequence[ChooseRequest]) -> list[ChooseAnswer]:
        """Choose a label for each request.

        Raises the error of the first request that fails, and cancels the others; with `submit` each fails alone.

        Raises:
            UnknownReference: if a request names no version.
            RequestError: if a request does not fit its adapter's task or names no field of its prompt.
            BaseError: if an adapter belongs to another base.
            BundleError: if an adapter's files are broken.
            RegistryError: if an adapter must be looked up, and the registry cannot be read.
        """
        return cast("list[ChooseAnswer]", self.answer(requests))

    def rank(self, requests: Sequence[RankRequest]) -> list[RankAnswer]:
        """Rank items for each request. Raises as `choose` does."""
        return cast("list[RankAnswer]", self.answer(requests))

    def generate(self, requests: Sequence[GenerateRequest]) -> list[GenerateAnswer]:
        """Generate an answer to each request. Raises as `choose` does."""
        return cast("list[GenerateAnswer]", self.answer(requests))

    def rate(self, requests: Sequence[RateRequest]) -> list[RateAnswer]:
        """Rate each request with a number. Raises as `choose` does."""
        return cast("list[RateAnswer]", self.answer(requests))

    def embed(self, requests: Sequence[EmbedRequest]) -> list[EmbedAnswer]:
        """The vector of each text, as its adapter on an encoder has it. Raises as `choose` does."""
        return cast("list[EmbedAnswer]", self.answer(requests))

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
        if isinstance(history, str):
            raise RequestError(f"history is {history[:60]!r} (allowed: a list of item ids)", next_step="send a list")
        if history:
            known["history"] = history
        return cast("RecommendAnswer", self.answer([RecommendRequest(adapter, known, k, rules)])[0])

    def stream(self, request: GenerateRequest, *, timeout: float | None = None) -> AsyncIterator[str]:
        """The answer's text, part by part, as it is written. Leaving the loop cancels the request.

        Args:
            request: of a `generate` adapter; if it has `logprobs`, each part is a `TextPart`, which has its tokens.
            timeout: seconds that the whole answer may take.

        Raises:
            ShopfitError: as `choose` does, after the parts so far were yielded.
        """
        return streamed(lambda show: self.submit(request, timeout=timeout, show=show))

    def submit(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        show: Show | None = None,
        usage: TokenUsage | None = None,
        done: Done | None = None,
    ) -> "Future[Answer]":
        """Submit a request of any task without waiting. `asyncio.wrap_future` makes the result awaitable.

        Args:
            request: of any task.
            timeout: seconds after which the request fails.
            show: generate: called with each part of the text, in order, on threads of the merchant; if the request has
                `logprobs`, with a `TextPart`. The future is done after the last call.
            usage: told what the request costs while it is answered, however it ends.
            done: called with the future when it is done, on whichever thread did that, the serving thread included: it
                must be quick and not fail. Callbacks of the future run on threads of the merchant instead.

        Returns:
            a future of the answer, or of its error. Cancelling it frees at once what the request holds. Its callbacks
            run on threads of the merchant.

        Raises:
            Overloaded: if the queue is full.
        """
        try:
            self._check_process()
            expires = time.monotonic() + seconds_of(timeout)
            merchant = merchant_asking(request)
        except ShopfitError as error:
            return failed(error, done)
        if not self._room.take(merchant):
            raise Overloaded(
                f"the engine has {self._room.whole} requests under way, as many as it may hold",
                next_step="try again in a moment, or give it more engines",
            )
        ticket = self._ticket(merchant, expires, usage, show, done)
        try:
            self._scheduler.watch(ticket)
            self._intake.take(ticket, request)
        except ShopfitError as error:
            ticket.fail(error)
        return ticket.future

    def prefetch(self, adapters: Iterable[Adapter]) -> None:
        """Load adapters into host memory for future requests. Returns at once; errors are ignored.

        So are adapters of a merchant that has 256 waiting to be loaded already.
        """
        self._check_process()
        for adapter in adapters:
            try:
                if (loaded := self._loader.hold(adapter)) is not None:
                    self._loader.let_go(loaded)
                elif self._loader.waiting(merchant_of(adapter)) < _PREFETCHED:
                    self._loader.bring(adapter, self._loader.let_go)
            except ShopfitError:
                continue

    def status(self) -> Status:
        """What the engine holds at this moment."""
        self._check_process()
        waiting, writing, paused = self._scheduler.load
        pool, cache = self._scheduler.pool, self._loader.adapter_cache
        ended = self._scheduler.ended
        why = "" if ended is None else ended.message
        load = (waiting, writing, pool.resident, pool.swaps, cache.adapters, cache.used, paused, why)
        room = (self._room.held, self._room.whole, pool.slots, self._scheduler.rows)
        return Status(*load, *room, cache.held(pool.seats))

    def set_catalog(self, merchant: str, catalog: Catalog | None) -> None:
        """Use a merchant's current catalog in place of the one in its bundles. Returns at once.

        Args:
            merchant: its slug.
            catalog: items with stock and prices, used from the next request on; None goes back to the bundles' own.
                Until the new catalog is indexed, search uses the previous index.

        Raises:
            RequestError: if it is no catalog.
        """
        self._compiler.set_catalog(merchant, catalog)

    def has_catalog(self, merchant: str) -> bool:
        """Whether a catalog that was set is used for a merchant; one that was erased has none any more."""
        return self._compiler.has_catalog(merchant)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer requests of any tasks together; those beyond the queue's size wait for their turn.

        Raises as `choose` does.
        """
        self._check_process()
        futures: list[Future[Answer]] = []
        ready: list[Job] = []

        def start() -> None:
            self._intake.start(ready)
            ready.clear()

        try:
            for request in asked(requests):
                merchant = merchant_asking(request)
                if not self._room.take(merchant):
                    start()
                    self._room.take(merchant, wait=True)
                ticket = self._ticket(merchant)
                futures.append(ticket.future)
                if (job := self._intake.take_here(ticket, request, start)) is not None:
                    ready.append(job)
                if ticket.over:
                    ticket.future.result()
            start()
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _ticket(
        self,
        merchant: str,
        expires: float = float("inf"),
        usage: TokenUsage | None = None,
        show: Show | None = None,
        done: Done | None = None,
    ) -> Ticket:
        calls = OrderedCalls(self._callbacks, merchant)
        ticket = Ticket(merchant, AnswerFuture(calls), expires, usage or TokenUsage())
        if show is not None:
            ticket.parts = Parts(calls, show, ticket.give_up)
        ticket.future.when_done(lambda: self._room.give_back(merchant))
        if done is not None:
            ticket.future.when_done(lambda: done(ticket.future))
        return ticket

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RequestError(
                f"this engine was made by process {self._process}, and its threads are there",
                next_step="load an engine in each process, after it was forked",
            )


def _close(loader: AdapterLoader, compiler: Compiler, intake: Intake, scheduler: Scheduler, callbacks: Workers) -> None:
    loader.close()
    intake.close()
    compiler.close()
    scheduler.stop()
    callbacks.close()
