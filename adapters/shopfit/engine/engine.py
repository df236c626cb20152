"""The engine: one base, and the adapter each request names.

It holds one adapter on the base at a time and answers a mixed batch adapter by adapter.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shopfit.adapter.attach import wearing
from shopfit.adapter.bundle import Bundle
from shopfit.adapter.voice import Voice
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine.asking import ask_choose, ask_generate, ask_rank
from shopfit.engine.requests import (
    Adapter,
    ChooseAnswer,
    ChooseRequest,
    GenerateAnswer,
    GenerateRequest,
    RankAnswer,
    RankedItem,
    RankRequest,
    Request,
)
from shopfit.engine.tenant import Tenant
from shopfit.errors import RequestError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import seen
from shopfit.recipe.schema import Task
from shopfit.registry import Registry
from shopfit.settings import Settings

R = TypeVar("R", ChooseRequest, RankRequest, GenerateRequest)
A = TypeVar("A")


class Engine:
    """Answers requests, each with the adapter it names and no other.

    Args:
        base: loaded.
        registry: where references are looked up; without one, requests name bundles or tenants.
        cache: folder that registry bundles are brought to; needed with a registry.
    """

    def __init__(self, base: Base, *, registry: Registry | None = None, cache: Path | None = None) -> None:
        self.base = base
        self._registry = registry
        self._cache = cache
        self._lock = threading.Lock()  # the adapter on the base is shared state

    @classmethod
    def load(
        cls,
        base: str,
        *,
        registry: Registry | None = None,
        settings: Settings | None = None,
        quantization: str = "none",
        device: str | None = None,
    ) -> "Engine":
        """Load a base and make its engine.

        Args:
            base: packaged base, Hub id or local folder.
            registry: by default the one that `settings` name.
            settings: from the environment by default.
            quantization: "none", "int8" or "nf4".
            device: such as "cpu" or "cuda:0"; the first GPU if there is one by default.

        Raises:
            BaseError: if the base cannot be loaded.
            RegistryError: if the registry cannot be reached.
        """
        settings = settings or Settings.from_environment()
        registry = registry or Registry.open(settings)
        return cls(
            load_base(base, settings.home, quantization=quantization, device=device),
            registry=registry,
            cache=settings.cache,
        )

    def choose(self, requests: Sequence[ChooseRequest]) -> list[ChooseAnswer]:
        """Choose a label for each request.

        Raises:
            UnknownReference: if a request names no version.
            RequestError: if a request does not fit its adapter's task or names no field of its prompt.
            BaseError: if an adapter belongs to another base.
        """

        def ask(
            voice: Voice, prompter: Prompter, tenant: Tenant, rows: Sequence[ChooseRequest]
        ) -> Iterable[ChooseAnswer]:
            for row in ask_choose(voice, prompter, tenant.labels, [request.fields for request in rows]):
                probabilities = dict(zip(tenant.labels, row.tolist(), strict=True))
                yield ChooseAnswer(max(probabilities, key=probabilities.__getitem__), probabilities)

        return self._answer("choose", requests, ask)

    def rank(self, requests: Sequence[RankRequest]) -> list[RankAnswer]:
        """Rank items for each request. Raises as `choose` does."""

        def ask(voice: Voice, prompter: Prompter, tenant: Tenant, rows: Sequence[RankRequest]) -> Iterable[RankAnswer]:
            pools = [_candidates(request, tenant) for request in rows]
            scores = ask_rank(
                voice, prompter, [(request.fields, pool) for request, pool in zip(rows, pools, strict=True)]
            )
            for request, pool, row in zip(rows, pools, scores, strict=True):
                order = sorted(range(len(pool)), key=lambda place: -row[place])[
                    : request.top or tenant.recipe.serve.top
                ]
                yield RankAnswer(
                    tuple(
                        RankedItem(pool[place], _title(tenant.catalog, pool[place]), float(row[place]))
                        for place in order
                    )
                )

        return self._answer("rank", requests, ask)

    def generate(self, requests: Sequence[GenerateRequest]) -> list[GenerateAnswer]:
        """Generate an answer to each request. Raises as `choose` does."""

        def ask(
            voice: Voice, prompter: Prompter, _: Tenant, rows: Sequence[GenerateRequest]
        ) -> Iterable[GenerateAnswer]:
            for text in ask_generate(voice, self.base, prompter, [request.fields for request in rows]):
                yield GenerateAnswer(text, _json_object(text))

        return self._answer("generate", requests, ask)

    def tenant(self, adapter: Adapter) -> Tenant:
        """What a request's `adapter` names.

        Raises:
            UnknownReference: if the registry has no such version.
            BundleError: if its files are broken.
        """
        if isinstance(adapter, Tenant):
            return adapter
        if isinstance(adapter, Bundle):
            return Tenant.of(adapter)
        if self._registry is None or self._cache is None:
            raise RequestError(
                f"this engine has no registry to look up {adapter!r}",
                next_step="make it with Engine.load, or name a bundle",
            )
        version = self._registry.resolve(adapter)
        return Tenant.of(self._registry.fetch(version, self._cache), version.name)

    def _answer(
        self, task: Task, requests: Sequence[R], ask: Callable[[Voice, Prompter, Tenant, Sequence[R]], Iterable[A]]
    ) -> list[A]:
        tenants: dict[Any, Tenant] = {}
        groups: dict[Any, list[int]] = {}
        for place, request in enumerate(requests):
            key = request.adapter if isinstance(request.adapter, str) else id(request.adapter)
            if key not in tenants:
                tenants[key] = self._fitting(request, task)
            groups.setdefault(key, []).append(place)
        answers: dict[int, A] = {}
        with self._lock:
            for key, places in groups.items():
                tenant = tenants[key]
                prompter = Prompter(tenant.recipe, self.base.tokenizer, tenant.catalog, tenant.history)
                with wearing(self.base, tenant.bundle) as voice:
                    answers.update(
                        zip(places, ask(voice, prompter, tenant, [requests[place] for place in places]), strict=True)
                    )
        return [answers[place] for place in range(len(requests))]

    def _fitting(self, request: Request, task: Task) -> Tenant:
        tenant = self.tenant(request.adapter)
        if tenant.recipe.task != task:
            raise RequestError(
                f"{tenant.name} is an adapter to {tenant.recipe.task}, not to {task}",
                next_step=f"ask it with `{tenant.recipe.task}`",
            )
        return tenant


def _candidates(request: RankRequest, tenant: Tenant) -> Sequence[str]:
    if request.candidates is not None:
        unknown = [item for item in request.candidates if tenant.catalog is not None and item not in tenant.catalog]
        if unknown:
            raise RequestError(
                f"candidates name items that {tenant.name} does not know: {', '.join(map(repr, unknown[:5]))}",
                next_step="send ids of its catalog",
            )
        return request.candidates
    if tenant.catalog is None:
        raise RequestError(f"{tenant.name} has no catalog to choose from", next_step="send `candidates`")
    left_out = () if tenant.recipe.data.repeats else seen(request.fields)
    return [
        item
        for item, entry in tenant.catalog.items()
        if item not in left_out and entry.fields.get("in_stock") is not False
    ]


def _title(catalog: Catalog | None, item: str) -> str:
    return item if catalog is None else catalog[item].title


def _json_object(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
