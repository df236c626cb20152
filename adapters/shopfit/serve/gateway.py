"""The one path of every request: key, adapter, limits, release, engine; and what is counted and kept of it."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from shopfit.errors import RequestError
from shopfit.recipe.suggestions import did_you_mean, listed, shown
from shopfit.registry import Grant, Registry, Version
from shopfit.serve.adapters import AdapterFacts, Adapters
from shopfit.serve.authentication import Authentication
from shopfit.serve.engines.pool import EnginePool, Supervised
from shopfit.serve.options import ServeOptions
from shopfit.serve.registry_state import RegistryState
from shopfit.serve.registry_threads import RegistryThreads
from shopfit.settings import Settings

Document = dict[str, Any]
"""An engine's answer as JSON; see the answers in `shopfit.tasks`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to an adapter.

    Args:
        kind: "choose", "rank", "recommend", "generate", "rate" or "embed".
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
        version: that answers.
        facts: of that version.
        engine: that has its base.
    """

    def __init__(self, gateway: "Gateway", version: Version, facts: AdapterFacts, engine: Supervised) -> None:
        self.id = f"ans_{secrets.token_hex(16)}"
        self.version = version
        self.facts = facts
        self.read = 0
        self.written = 0
        self._gateway = gateway
        self._engine = engine
        self._ends = time.monotonic() + gateway.options.timeout

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
        if unknown := next((one for one in known if one not in self.facts.fields), None):
            raise RequestError(
                f"the prompt of {self.version.name} shows no {shown(unknown)}{did_you_mean(unknown, self.facts.fields)} "
                f"(allowed: {', '.join(self.facts.fields)})",
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
        answer: Document = await self._engine.ask(self._message(ask))
        self._count(answer)
        return answer

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
        async for kind, value in self._engine.stream(self._message(ask)):
            if kind == "answer":
                self._count(value)
            yield kind, value

    def _message(self, ask: Ask) -> dict[str, Any]:
        return {
            "do": "ask",
            "kind": ask.kind,
            "adapter": self.version.name,
            "fields": ask.fields,
            "options": ask.options,
            "timeout": max(0.001, self._ends - time.monotonic()),
            "catalog": self._gateway.state.catalogs.get(self.version.merchant, ""),
        }

    def _count(self, answer: Document) -> None:
        self.read += answer.get("read", 0)
        self.written += answer.get("written", 0)


class Gateway:
    """Answers requests of every merchant. For one event loop.

    Args:
        registry: that holds versions, keys, releases, limits and catalogs.
        settings: where it is, for the engine processes.
        options: of `shopfit serve`.
    """

    def __init__(self, registry: Registry, settings: Settings, options: ServeOptions) -> None:
        self.registry = registry
        self.options = options
        self.threads = RegistryThreads()
        self.authentication = Authentication(registry, self.threads, needed=options.auth)
        self.adapters = Adapters(registry, self.threads)
        self.state = RegistryState(registry, self.threads)
        places = {"home": str(settings.home), "registry": settings.registry, "blobs": settings.blobs}
        engines = {**places, "threads": options.threads, "options": options.engine_options}
        self.engines = EnginePool(engines, options.queue)
        self.draining = False

    async def start(self) -> None:
        """Start the engines of every base that a production adapter names, without waiting for them."""
        await self.state.start()
        for base in await self.threads.run(self._bases):
            self.engines.of(base)

    async def close(self) -> None:
        """End the engines and the threads."""
        await self.state.close()
        self.adapters.close()
        await self.engines.close()
        self.threads.close()

    @asynccontextmanager
    async def turn(self, grant: Grant, model: str, kinds: Sequence[str], user: str = "") -> AsyncIterator[Turn]:
        """One request's turn: it is admitted, its version and its engine are found.

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
        _, version = await self.adapters.find(model, grant)
        facts = await self.adapters.facts(version)
        _check_task(version, facts, kinds)
        yield Turn(self, version, facts, self.engines.of(facts.base))

    def _bases(self) -> list[Any]:
        """Of every version in production, with the first of each base read to know its quantization."""
        found = {}
        for version in self.registry.versions():
            if "production" in version.aliases and version.base_fingerprint not in found:
                found[version.base_fingerprint] = self.adapters.read(version).base
        return list(dict.fromkeys(found.values()))


def _check_task(version: Version, facts: AdapterFacts, kinds: Sequence[str]) -> None:
    if kinds and facts.task not in kinds:
        raise RequestError(
            f"{version.name} is an adapter to {facts.task}, and this endpoint is for {listed(kinds)}",
            next_step=f"ask {_ENDPOINTS[facts.task]}",
        )


_ENDPOINTS = {
    "choose": "/v1/classify",
    "rank": "/v1/rerank or /v1/recommend",
    "generate": "/v1/completions or /v1/chat/completions",
    "rate": "/v1/rate",
}
