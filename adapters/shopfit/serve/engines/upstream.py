"""Answers `generate`, `choose` and `rate` with vLLM servers that read the same registry; all else with an own engine.

Prompts are made here, token by token, so that no text becomes a control token, and answers are made here of what vLLM
computed: with the adapter's calibration and score fusion. vLLM only ever sees token ids and the name of a version.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shopfit.adapter.artifacts import FUSION
from shopfit.adapter.bundle import MANIFEST
from shopfit.adapter.items import CATALOG, HISTORY
from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.base.checkpoint import Checkpoint
from shopfit.base.embed import late_embedder
from shopfit.base.families import kind_of
from shopfit.base.locate import locate_base
from shopfit.base.merchant_search import for_parts
from shopfit.base.prompt import Prompter
from shopfit.engine import Answer, ChooseRequest, Engine, GenerateAnswer, GenerateRequest, RateRequest, Request, Status
from shopfit.engine.delivery import Done, Show
from shopfit.engine.validation import check
from shopfit.errors import BaseError, DeadlineExceeded, Overloaded, RequestError, ShopfitError
from shopfit.merchant.catalog import Catalog
from shopfit.recipe.item_rules import Rules
from shopfit.registry import Reference, Registry, Version
from shopfit.registry.alias_cache import AliasCache
from shopfit.registry.pinned_name import PinnedName
from shopfit.serve.engines.upstream_base import UpstreamBase
from shopfit.serve.engines.upstream_scores import NEUTRAL, answer_scores
from shopfit.serve.engines.vllm_client import VllmClient
from shopfit.serve.engines.written_text import WrittenText
from shopfit.settings import Settings
from shopfit.tasks import closed_task_of
from shopfit.tasks.explanations import ExplainRequest, explain
from shopfit.tasks.generate import TextPart
from shopfit.tasks.requests import TokenUsage
from shopfit.tasks.scored import Parts
from shopfit.tasks.tenant import Tenant

if TYPE_CHECKING:
    from concurrent.futures import Future

_ADAPTERS = 1024  # whose recipe, labels and items stay in memory
"""What vLLM would else take from the base's generation_config.json."""


@dataclass(frozen=True, slots=True)
class _Served:
    """An adapter without its weights, which vLLM has."""

    version: Version
    name: str
    tenant: Tenant
    prompter: Prompter


class UpstreamEngine:
    """What an engine process answers with where vLLM has the base. It has the interface of `Engine`.

    Args:
        url: of vLLM, or of the proxy before several servers.
        base: that they serve.
        registry: that they read, too.
        settings: of this machine.
        encoder: for score fusion that needs one; None for none.
        queue: requests under way at most.
        local: makes the engine that answers all other tasks, when the first such request comes.
    """

    def __init__(
        self,
        url: str,
        base: UpstreamBase,
        *,
        registry: Registry,
        settings: Settings,
        encoder: str | None,
        queue: int,
        local: Callable[[], Engine],
    ) -> None:
        self.base = base
        self._client = VllmClient(url)
        self._registry = registry
        self._embed = None if encoder is None else late_embedder(settings.home, encoder)
        self._queue = queue
        self._make_local = local
        self._local: Engine | None = None
        self._names = AliasCache(registry)
        self._adapters: OrderedDict[str, _Served] = OrderedDict()
        self._catalogs: dict[str, Catalog | None] = {}
        self._under_way: set[Future[Answer]] = set()
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shopfit-upstream", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls, url: str, name: str, *, registry: Registry, settings: Settings, quantization: str, **options: Any
    ) -> "UpstreamEngine | Engine":
        """Make one for a base: for any but a decoder, which vLLM does not serve, a plain `Engine`.

        Args:
            url: of vLLM.
            name: of the base.
            registry: that holds the adapters.
            settings: of this machine.
            quantization: of the engine that answers all other tasks.
            options: of that engine.

        Raises:
            BaseError: if the base's files are not here, or are damaged.
        """

        def local() -> Engine:
            return Engine.load(name, registry=registry, settings=settings, quantization=quantization, **options)

        checkpoint = Checkpoint.open(locate_base(name, settings.home))
        if kind_of(name, checkpoint) != "decoder":
            return local()
        return cls(
            url,
            UpstreamBase.of(name, checkpoint),
            registry=registry,
            settings=settings,
            encoder=options.get("encoder"),
            queue=options["queue"],
            local=local,
        )

    def __enter__(self) -> "UpstreamEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is under way, and end the own engine."""
        for future in list(self._under_way):
            future.cancel()
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._names.close()
        if self._local is not None:
            self._local.close()

    def submit(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        show: Show | None = None,
        usage: TokenUsage | None = None,
        done: Done | None = None,
    ) -> "Future[Answer]":
        """As `Engine.submit`; parts are shown on the one thread of all requests.

        Raises:
            Overloaded: if too many are under way.
        """
        with self._lock:
            if len(self._under_way) >= self._queue:
                raise Overloaded(
                    f"there are {len(self._under_way)} requests under way to vLLM, as many as may be",
                    next_step="try again in a moment, or give it more servers",
                )
            future = self._begin(self._answer(request, timeout, show, usage or TokenUsage()))
            self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        if done is not None:
            future.add_done_callback(done)
        return future

    def prefetch(self, adapters: Sequence[str]) -> None:
        """Nothing: vLLM loads an adapter when it is asked."""

    def status(self) -> Status:
        """Of the own engine; `requests` and `queue` are of both."""
        own = Status(0, 0, 0, 0, 0, 0) if self._local is None else self._local.status()
        return replace(own, requests=own.requests + len(self._under_way), queue=self._queue)

    def set_catalog(self, merchant: str, catalog: Catalog | None) -> None:
        """For the own engine, as `Engine.set_catalog`: what vLLM answers needs no catalog."""
        with self._making:
            self._catalogs[merchant] = catalog
            if self._local is not None:
                self._local.set_catalog(merchant, catalog)

    def has_catalog(self, merchant: str) -> bool:
        """Whether a catalog that was set is used for a merchant, as `Engine.has_catalog` says."""
        with self._making:
            if self._local is not None:
                return self._local.has_catalog(merchant)
            return self._catalogs.get(merchant) is not None

    def _begin(self, work: Coroutine[Any, Any, Answer]) -> "Future[Answer]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _answer(self, request: Request, timeout: float | None, show: Show | None, usage: TokenUsage) -> Answer:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                if isinstance(request, ExplainRequest):
                    served = await self._find(request.adapter)
                    if not served.tenant.recipe.spec.items:  # else the own engine knows the current catalog
                        answer: Answer = explain(request, served.tenant, served.prompter)
                        return replace(answer, version=served.version.name, digest=served.version.digest)
                if not isinstance(request, GenerateRequest | ChooseRequest | RateRequest):
                    engine = await asyncio.to_thread(self._own)
                    left = None if timeout is None else max(0.001, timeout - (time.monotonic() - begun))
                    return await asyncio.wrap_future(engine.submit(request, timeout=left, show=show, usage=usage))
                check(request)
                served = await self._find(request.adapter)
                if request.task != served.tenant.recipe.task:
                    raise RequestError(
                        f"{served.version.name} is an adapter to {served.tenant.recipe.task}, not to {request.task}",
                        next_step="ask it for what it does",
                    )
                if isinstance(request, GenerateRequest):
                    answer = await self._generate(request, served, show, usage)
                else:
                    answer = await self._compare(request, served, usage)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the request was not answered in {timeout:g} seconds", next_step="allow more time, or ask for less"
            ) from error
        more = {"read": usage.read, "written": usage.written}
        return replace(answer, version=served.version.name, digest=served.version.digest, **more)

    def _own(self) -> Engine:
        with self._making:
            if self._local is None:
                self._local = self._make_local()
                for merchant, catalog in self._catalogs.items():
                    self._local.set_catalog(merchant, catalog)
            return self._local

    async def _find(self, adapter: Any) -> _Served:
        reference = Reference.parse(adapter)
        version = self._names.known(reference)
        if version is None:
            version = await asyncio.to_thread(self._names.resolve, reference)
        served = self._adapters.get(version.digest)
        if served is None or served.version.name != version.name:
            served = self._adapters[version.digest] = await asyncio.to_thread(self._read, version)
            if len(self._adapters) > _ADAPTERS:
                self._adapters.popitem(last=False)
        if version.digest in self._adapters:  # others may have come meanwhile
            self._adapters.move_to_end(version.digest)
        return served

    def _read(self, version: Version) -> _Served:
        tenant = Tenant.of(self._registry.read(version, _without_weights), version.name)
        assert tenant.bundle is not None
        manifest = tenant.bundle.manifest
        if manifest.base.fingerprint not in {self.base.fingerprint, self.base.legacy}:
            raise BaseError(
                f"{version.name} was trained on another base than the {self.base.name} that vLLM serves",
                next_step="serve it where that base is served",
            )
        if not manifest.plain:
            raise RequestError(
                f"{version.name} (method {manifest.method}) has no plain LoRA form, and vLLM serves no other",
                next_step="serve it without --upstream, or train it again as LoRA or AdaLoRA",
            )
        return _Served(version, str(PinnedName.of(version)), tenant, tenant.prompter(self.base.tokenizer))

    async def _compare(self, request: Request, served: _Served, usage: TokenUsage) -> Answer:
        tenant, prompter = served.tenant, served.prompter
        task = closed_task_of(request.task)
        scores = np.empty(0)
        if tenant.speaks:
            question = task.question(prompter, tenant.labels, request.fields, (), None)
            usage.read = question.tokens  # from now on: a request that is late or cancelled is read, too
            try:
                scores = await answer_scores(self._client, question, served.name)
            except ShopfitError:
                usage.read = 0
                raise
        others = {}
        if tenant.blend is not None:
            if tenant.blend.encoded and self._embed is None:
                raise RequestError(
                    f"{tenant.name} answers with the help of a sentence encoder, and the gateway has none",
                    next_step="serve with --encoder auto",
                )
            embed = for_parts(self._embed, tenant.recipe) if tenant.blend.encoded else None  # which loads nothing yet
            text = prompter.text(request.fields)

            def parts(blend: ScoreFusion) -> Parts:
                if embed is not None:
                    tenant.check_encoder(embed)
                return task.parts(blend, tenant.labels, request.fields, text, embed)

            others = await asyncio.to_thread(parts, tenant.blend)
        return task.answer(tenant, scores, others)

    async def _generate(
        self, request: GenerateRequest, served: _Served, show: Show | None, usage: TokenUsage
    ) -> Answer:
        prompt = served.prompter.encode(request.fields)
        body = {"prompt": list(prompt), **self._options(request, served, len(prompt)), **NEUTRAL}
        written = WrittenText(request.logprobs)
        finish, told = "", 0
        async with aclosing(self._client.stream(served.name, body)) as events:
            async for event in events:
                usage.read = len(prompt)
                told = (event.get("usage") or {}).get("completion_tokens", told)
                for choice in event["choices"]:
                    part = written.add(choice)
                    finish = choice.get("finish_reason") or finish
                    if show is not None and part:
                        show(part)
                usage.written = told - written.ended
        if show is not None and isinstance(rest := written.rest(), TextPart):
            show(rest)
        answer = GenerateAnswer.of(written.text, "length" if finish == "length" else "stop")
        return replace(answer, tokens=tuple(written.tokens))

    def _options(self, request: GenerateRequest, served: _Served, length: int) -> dict[str, Any]:
        serve = served.tenant.recipe.serve
        room = self.base.max_length - length
        if room < 1:
            raise RequestError(
                f"the request takes {length} tokens, and the base {self.base.name} attends to {self.base.max_length}",
                next_step="shorten its texts",
            )
        options: dict[str, Any] = {
            "max_tokens": min(_either(request.max_new_tokens, serve.max_new_tokens), room),
            "temperature": _either(request.temperature, serve.temperature),
            "top_p": _either(request.top_p, serve.top_p),
            "stop": list(_either(request.stop, serve.stop)),
            "frequency_penalty": request.frequency_penalty or 0.0,
            "presence_penalty": request.presence_penalty or 0.0,
        }
        if end := served.prompter.end:
            options["stop_token_ids"] = sorted(end)
        if request.seed is not None:
            options["seed"] = request.seed
        if request.logprobs is not None:
            options["logprobs"] = request.logprobs
        schema = _either(request.json_schema, serve.json_schema)
        if end - {self.base.tokenizer.eos_token_id} and (serve.titles if schema is None else not _is_object(schema)):
            raise RequestError(
                "vLLM ends a text or a number that follows a grammar with the base's end token alone, and a turn of "
                f"{served.version.name} ends with another (allowed: a JSON schema of an object)",
                next_step="serve it without --upstream",
            )
        if schema is not None:
            options["structured_outputs"] = {"json": schema}
        elif serve.titles:
            before, after = served.prompter.around_output
            items = (served.tenant.catalog or {}).values()
            titles = [f"{before}{item.title}{after}" for item in items if Rules().allow(item.fields)]
            options["structured_outputs"] = {"choice": titles}
        return options


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Whether all that follows a JSON schema is complete with its last brace."""
    return schema.get("type") == "object"


def _either(asked: Any, usual: Any) -> Any:
    return usual if asked is None else asked


def _without_weights(paths: Collection[str]) -> set[str]:
    return {MANIFEST, CATALOG, HISTORY, FUSION} & set(paths)
