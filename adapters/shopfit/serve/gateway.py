"""The one path of every request: key, adapter, limits, release, engine; and what is counted and kept of it."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from shopfit.errors import BundleError, RecipeError, RequestError, ShopfitError
from shopfit.recipe.suggestions import did_you_mean, listed, shown
from shopfit.registry import Grant, Registry, Version
from shopfit.serve.adapters import AdapterFacts, Adapters
from shopfit.serve.answer_ids import AnswerIds
from shopfit.serve.authentication import Authentication
from shopfit.serve.budgets import TokenBudgets
from shopfit.serve.catalog_processes import CatalogProcesses
from shopfit.serve.console.fleet_table import FleetTable
from shopfit.serve.console.label_queues import LabelQueues
from shopfit.serve.console.registry_table import RegistryTable
from shopfit.serve.engines.pool import BaseKey, EnginePool
from shopfit.serve.limits import PLATFORM, MerchantLimits
from shopfit.serve.metrics import Metrics
from shopfit.serve.options import ServeOptions
from shopfit.serve.registry_state import RegistryState
from shopfit.serve.registry_threads import RegistryThreads
from shopfit.serve.releases import Chosen, Releases
from shopfit.serve.request_record import RequestRecord, current_record
from shopfit.serve.run_workers import RunWorkers
from shopfit.serve.shadows import Shadows
from shopfit.serve.shown_answer import ShownAnswer
from shopfit.serve.shown_log import ShownLog
from shopfit.serve.shown_store import ShownStore
from shopfit.serve.start_checks import check_encoder, look_for_upstream
from shopfit.serve.tracing import Tracing
from shopfit.serve.traffic import Traffic
from shopfit.serve.user_hashes import UserHashes
from shopfit.settings import Settings, traces_exporter, user_key

logger = logging.getLogger(__name__)

_TRIED = 3  # versions of a base that are read, if those before are damaged, to know how it is loaded

Document = dict[str, Any]
"""An engine's answer as JSON; see the answers in `shopfit.tasks`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to an adapter.

    Args:
        kind: "choose", "rank", "recommend", "generate", "rate", "embed" or "explain".
        fields: of the prompt, by name.
        options: of the engine's request of that kind, such as `top`.
    """

    kind: str
    fields: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)


class Turn:
    """One HTTP request that is being answered by one version.

    Args:
        gateway: that answers.
        chosen: the version that answers.
        facts: of that version.
        record: of the request.

    Attributes:
        answers: what was asked and answered so far.
    """

    def __init__(self, gateway: "Gateway", chosen: Chosen, facts: AdapterFacts, record: RequestRecord) -> None:
        self.id = record.answer = gateway.answer_ids.new(chosen.version.merchant)
        self.version = chosen.version
        self.chosen = chosen
        self.facts = facts
        self.answers: list[tuple[Ask, Document]] = []
        record.adapter = f"{self.version.merchant}/{self.version.recipe}"
        record.version, record.release = self.version.name, chosen.release
        self._gateway = gateway
        self._engine = gateway.engines.of(facts.base)
        record.cold = self._engine.running is None
        self._record = record
        self._ends = time.monotonic() + gateway.options.timeout

    @property
    def read(self) -> int:
        """Tokens that forwards read so far."""
        return self._record.read

    @property
    def written(self) -> int:
        """Tokens that were written so far."""
        return self._record.written

    @property
    def headers(self) -> dict[str, str]:
        """That every answer carries."""
        return {
            "x-shopfit-version": self.version.name,
            "x-shopfit-digest": self.version.digest,
            "x-shopfit-answer-id": self.id,
        }

    def fields(self, text: str | None, fields: Mapping[str, Any] | None, *, name: str = "") -> dict[str, Any]:
        """The fields of a prompt: those that were sent by name, and a text without one.

        Args:
            text: of the recipe's main text field.
            fields: the others.
            name: the field that the text is, if the prompt shows one of that name.

        Raises:
            RequestError: if the prompt shows no text or not such a field, or a field is given twice.
        """
        known = dict(fields or {})
        if (unknown := next((one for one in known if one not in self.facts.fields), None)) is not None:
            raise RequestError(
                f"the prompt of {self.version.name} shows no {shown(unknown)}"
                f"{did_you_mean(unknown, self.facts.fields)} (allowed: {', '.join(self.facts.fields)})",
                next_step="leave it out, or name a field of the prompt",
            )
        if text is None:
            return known
        field = name if name in self.facts.fields else self.facts.text_field
        if not field:
            raise RequestError(
                f"{self.version.name} shows no text in its prompt (allowed: {', '.join(self.facts.fields)})",
                next_step="send these in `fields`",
            )
        if field in known:
            raise RequestError(f"the field {field!r} is given twice", next_step="leave it out of `fields`")
        return {field: text, **known}

    async def ask(self, ask: Ask) -> Document:
        """The answer to one question.

        Raises:
            ShopfitError: as the engine does.
        """
        with self._gateway.tracing.ask(ask.kind, self.version.name):
            answer: Document = await self._engine.ask(self._message(ask), self._spend)
        self._answered(ask, answer)
        return answer

    async def explain(self, fields: Mapping[str, Any], rules: Mapping[str, Any] | None = None) -> Document:
        """How the version understands a question; see `shopfit.tasks.explanations`. It is no answer that was shown."""
        message = self._message(Ask("explain", fields, {"rules": rules}))
        explanation: Document = await self._engine.ask(message, self._spend)
        return explanation

    async def ask_all(self, asks: Sequence[Ask]) -> list[Document]:
        """The answers to several questions, asked together. The first error cancels the others."""
        if len(asks) == 1:
            return [await self.ask(asks[0])]
        tasks = [asyncio.create_task(self.ask(ask)) for ask in asks]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def stream(self, ask: Ask) -> AsyncGenerator[tuple[str, Any], None]:
        """A text as it is written: ("part", text or tokens), and last ("answer", the whole)."""
        async with aclosing(self._engine.stream(self._message(ask), self._spend)) as events:
            async for kind, value in events:
                if kind == "answer":
                    self._answered(ask, value)
                else:
                    self._record.part()
                yield kind, value

    def _message(self, ask: Ask) -> dict[str, Any]:
        if self._gateway.options.log_texts:
            self._record.texts.append(ask.fields)
        return self._gateway.message(self.version, ask, max(0.001, self._ends - time.monotonic()))

    def _answered(self, ask: Ask, answer: Document) -> None:
        self.answers.append((ask, answer))
        self._record.waited.append(answer.get("waited", 0.0))

    def _spend(self, read: int, written: int) -> None:
        """Charge tokens, also those of an answer that failed, was late, or was not waited for."""
        self._record.read += read
        self._record.written += written
        self._gateway.metrics.spent(self._record.adapter, read, written)
        self._gateway.budgets.add(self.version.merchant, read + written)


class Gateway:
    """Answers requests of every merchant. For one event loop.

    Args:
        registry: that holds versions, keys, releases, limits and catalogs.
        settings: where it is, for the engine processes.
        options: of `shopfit serve`.

    Raises:
        RegistryError: if the registry cannot be read.
    """

    def __init__(self, registry: Registry, settings: Settings, options: ServeOptions) -> None:
        self.registry = registry
        self.settings = settings
        self.options = options
        self.threads = RegistryThreads()
        self.authentication = Authentication(registry, self.threads, needed=options.auth)
        self.state = RegistryState(registry, self.threads)
        self.adapters = Adapters(registry, self.threads, self.state.revision)
        places = {"home": str(settings.home), "registry": settings.registry, "blobs": settings.blobs}
        own = {"threads": options.threads, "upstream": options.upstream, "options": options.engine_options}
        self.engines = EnginePool({**places, **own}, options)
        self.catalogs = CatalogProcesses(places, self.threads)
        self.draining = False
        self.metrics = Metrics(options.adapters_in_metrics)
        self.traffic = Traffic()
        self.fleet = FleetTable(registry, self.traffic)
        self.labels = LabelQueues()
        self.kept = RegistryTable(registry)
        self.tracing = Tracing(traces_exporter())
        self.budgets = TokenBudgets(registry, self.threads)
        self.limits = MerchantLimits(self.state, self.budgets, self.metrics, options)
        self.releases = Releases(self.state, self.adapters)
        self.shadows = Shadows(self, self.releases, self.metrics)
        self.secret = registry.answer_secret()
        self.answer_ids = AnswerIds(self.secret)
        self.runs = RunWorkers(settings)
        self.user_hashes = UserHashes(settings.home, user_key())
        self.shown = _shown_log(options, self.metrics)

    async def start(self) -> None:
        """Start the engines of every base that a production adapter names, without waiting for them.

        Raises:
            RegistryError: if the registry or its blobs cannot be read.
            ShopfitError: if something that the options name is not there.
        """
        check_encoder(self.options.encoder)
        await self.limits.check()
        await self.threads.run(self.registry.check_blobs)
        await look_for_upstream(self.options.upstream)
        await self.state.start()
        self.runs.start()
        bases = await self.threads.run(self._bases)
        if not bases:
            logger.warning("nothing is in production: /v1/models is empty until `shopfit registry promote`")
        for base in bases:
            self.engines.of(base)

    async def close(self) -> None:
        """End the engines and the threads; what was counted and logged is written."""
        await self.runs.close()
        await self.shadows.close()
        await self.state.close()
        self.adapters.close()
        await self.engines.close()
        await self.catalogs.close()
        await self.budgets.close()
        if self.shown is not None:
            await self.shown.close()
        await asyncio.to_thread(self.tracing.close)
        self.threads.close()

    async def enter(self, request: Request, held: AsyncExitStack) -> Grant:
        """What the key of a request may do; the request counts among those of its merchant, or of the platform.

        Args:
            request: of any endpoint that needs a key.
            held: in which the request is under way.

        Raises:
            KeyRefused: if there is no valid key.
            LimitExceeded: if there are too many requests.
            RegistryError: if the key must be looked up, and the registry cannot be read.
        """
        grant = await self.authentication.grant(request)
        record = current_record()
        record.key = grant.key
        await held.enter_async_context(self.limits.admit(grant.merchant or PLATFORM, record))
        return grant

    async def visit(self, request: Request, token: str) -> Grant:
        """What the key of somebody at the console may do; the page counts among those of its merchant.

        Args:
            request: of a page.
            token: the key.

        Raises:
            KeyRefused: if it is not valid.
            LimitExceeded: if there are too many.
            RegistryError: if the key must be looked up, and the registry cannot be read.
        """
        grant = await self.authentication.grant(request, token)
        record = current_record()
        record.key = grant.key
        await self.limits.check_page(grant.merchant or PLATFORM, record)
        return grant

    @asynccontextmanager
    async def turn(self, grant: Grant, model: str, kinds: Sequence[str], user: str = "") -> AsyncIterator[Turn]:
        """One request's turn: its version and its engine are found. One of the platform's counts for the merchant, too.

        Args:
            grant: of the key that asks.
            model: the adapter's name, as the client sent it.
            kinds: tasks that the endpoint is for; none for any.
            user: the merchant's shopper, for releases that are sticky by user; empty if it is not said.

        Raises:
            UnknownReference: if the key may not use such an adapter.
            RequestError: if the adapter is of another task.
            LimitExceeded: if the merchant has used up what it may.
        """
        record = current_record()
        async with AsyncExitStack() as admitted:
            reference, version = await self.adapters.find(model, grant)
            if grant.merchant is None:
                await admitted.enter_async_context(self.limits.admit(version.merchant, record))
            await self.limits.check_tokens(version.merchant, record)
            chosen = await self.releases.choose(reference, version, user)
            facts = await self.adapters.facts(chosen.version)
            _check_task(chosen.version, facts, kinds)
            turn = Turn(self, chosen, facts, record)
            try:
                yield turn
            except ShopfitError as error:
                record.broken, record.kind = error.http_status, type(error).__name__
                raise
            record.after.append(lambda: self._after(turn, user))

    def message(self, version: Version, ask: Ask, timeout: float) -> dict[str, Any]:
        """What an engine is sent to ask a version."""
        return {
            "do": "ask",
            "kind": ask.kind,
            "adapter": version.name,
            "fields": ask.fields,
            "options": ask.options,
            "timeout": timeout,
            "catalog": self.state.catalogs.get(version.merchant, ""),
        }

    def _after(self, turn: Turn, user: str) -> None:
        """A turn's answer was sent."""
        if turn.chosen.release == "production":
            self.shadows.repeat(turn)
        if self.shown is None:
            return
        version, texts = turn.version, self.options.shown_texts
        answers = [(ask.kind, ask.fields if texts else {}, answer) for ask, answer in turn.answers]
        hashed = self.user_hashes.of(version.merchant, user)
        who = (version.merchant, version.recipe, version.name, version.digest, *turn.chosen[1:], turn.id, hashed)
        self.shown.add(ShownAnswer(*who, answers))

    def _bases(self) -> list[BaseKey]:
        """Of every version in production, with one of each base read to know its quantization."""
        found: dict[str, BaseKey] = {}
        for version in self.registry.of_bases(_TRIED):
            if version.base_fingerprint not in found:
                try:
                    found[version.base_fingerprint] = self.adapters.read(version).base
                except (BundleError, RecipeError) as error:  # others are served all the same
                    logger.error("%s cannot be served: %s", version.name, error)
        return list(dict.fromkeys(found.values()))


def _check_task(version: Version, facts: AdapterFacts, kinds: Sequence[str]) -> None:
    if kinds and facts.task not in kinds:
        raise RequestError(
            f"{version.name} is an adapter to {facts.task}, and this endpoint is for {listed(kinds)}",
            next_step=f"ask {_ENDPOINTS[facts.task]}",
        )


def _shown_log(options: ServeOptions, metrics: Metrics) -> ShownLog | None:
    if not options.shown:
        return None
    store = ShownStore(options.shown)
    store.check()
    return ShownLog(store, metrics, texts=options.shown_texts)


_ENDPOINTS = {
    "choose": "/v1/classify",
    "rank": "/v1/rerank or /v1/recommend",
    "generate": "/v1/completions or /v1/chat/completions",
    "rate": "/v1/rate",
}
