"""The engine: one base, and the adapter each request names.

Choose and rank answer the rows of many adapters in the same forwards, each row with its own slot of the stack; prefix
tuned adapters and generation have the base to themselves for now.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shopfit.adapter.attach import Worn, wearing
from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter, Question
from shopfit.engine.answering import score
from shopfit.engine.asking import Floats, ask_generate, choose_question, joined, rank_questions, softmax
from shopfit.engine.pool import SlotPool
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


class Engine:
    """Answers requests, each with the adapter it names and no other.

    Args:
        base: loaded.
        registry: where references are looked up; without one, requests name bundles or tenants.
        cache: folder that registry bundles are brought to; needed with a registry.
        slots: adapters resident at a time, at least one.
    """

    def __init__(
        self, base: Base, *, registry: Registry | None = None, cache: Path | None = None, slots: int = 32
    ) -> None:
        self.base = base
        self._registry = registry
        self._cache = cache
        self._pool = SlotPool(base, slots)
        self._lock = threading.Lock()  # the slots and the base's layers are shared state

    @classmethod
    def load(
        cls,
        base: str,
        *,
        registry: Registry | None = None,
        settings: Settings | None = None,
        quantization: str = "none",
        device: str | None = None,
        slots: int = 32,
    ) -> "Engine":
        """Load a base and make its engine.

        Args:
            base: packaged base, Hub id or local folder.
            registry: by default the one that `settings` name.
            settings: from the environment by default.
            quantization: "none", "int8" or "nf4".
            device: such as "cpu" or "cuda:0"; the first GPU if there is one by default.
            slots: adapters resident at a time, at least one.

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
            slots=slots,
        )

    def choose(self, requests: Sequence[ChooseRequest]) -> list[ChooseAnswer]:
        """Choose a label for each request.

        Raises:
            UnknownReference: if a request names no version.
            RequestError: if a request does not fit its adapter's task or names no field of its prompt.
            BaseError: if an adapter belongs to another base.
        """
        tenants, prompters = self._known("choose", requests)
        asked = [
            (tenant, choose_question(prompter, tenant.labels, request.fields))
            for request, tenant, prompter in zip(requests, tenants, prompters, strict=True)
        ]
        answers = []
        for tenant, scores in zip(tenants, self._scores(asked), strict=True):
            probabilities = dict(zip(tenant.labels, softmax(scores).tolist(), strict=True))
            answers.append(ChooseAnswer(max(probabilities, key=probabilities.__getitem__), probabilities))
        return answers

    def rank(self, requests: Sequence[RankRequest]) -> list[RankAnswer]:
        """Rank items for each request. Raises as `choose` does."""
        tenants, prompters = self._known("rank", requests)
        pools = [_candidates(request, tenant) for request, tenant in zip(requests, tenants, strict=True)]
        asked = [
            (tenant, rank_questions(prompter, request.fields, pool))
            for request, tenant, prompter, pool in zip(requests, tenants, prompters, pools, strict=True)
        ]
        answers = []
        for request, tenant, pool, scores in zip(requests, tenants, pools, self._scores(asked), strict=True):
            order = sorted(range(len(pool)), key=lambda place: -scores[place])
            items = (
                RankedItem(pool[place], _title(tenant.catalog, pool[place]), float(scores[place]))
                for place in order[: request.top or tenant.recipe.serve.top]
            )
            answers.append(RankAnswer(tuple(items)))
        return answers

    def generate(self, requests: Sequence[GenerateRequest]) -> list[GenerateAnswer]:
        """Generate an answer to each request. Raises as `choose` does."""
        tenants, prompters = self._known("generate", requests)
        groups: dict[int, list[int]] = {}
        for place, tenant in enumerate(tenants):
            groups.setdefault(id(tenant), []).append(place)
        texts = [""] * len(requests)
        with self._lock:
            for places in groups.values():
                tenant, prompter = tenants[places[0]], prompters[places[0]]
                with wearing(self.base, tenant.bundle) as voice:
                    rows = [requests[place].fields for place in places]
                    for place, text in zip(places, ask_generate(voice, self.base, prompter, rows), strict=True):
                        texts[place] = text
        return [GenerateAnswer(text, _json_object(text)) for text in texts]

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

    def _known(self, task: Task, requests: Sequence[Request]) -> tuple[list[Tenant], list[Prompter]]:
        """Tenant and prompter of each request; requests that name the same adapter share them."""
        known: dict[Any, tuple[Tenant, Prompter]] = {}
        for request in requests:
            if (key := _key(request.adapter)) not in known:
                tenant = self._fitting(request, task)
                known[key] = (
                    tenant,
                    Prompter(tenant.recipe, self.base.tokenizer, tenant.catalog, tenant.history),
                )
        found = [known[_key(request.adapter)] for request in requests]
        return [tenant for tenant, _ in found], [prompter for _, prompter in found]

    def _scores(self, asked: Sequence[tuple[Tenant, list[Question]]]) -> list[Floats]:
        """Scores of each row's questions. LoRA rows of up to `slots` adapters share forwards; a prefix has its own."""
        scores: list[Floats] = [np.empty(0)] * len(asked)
        with self._lock:
            for places in self._batches([tenant for tenant, _ in asked]):
                questions = [question for place in places for question in asked[place][1]]
                bundle = asked[places[0]][0].bundle
                pad = self.base.tokenizer.pad_token_id
                if bundle is not None and bundle.lora is None:
                    with wearing(self.base, bundle) as voice:
                        found = iter(score(voice, questions, pad=pad))
                else:
                    slots = self._slots([asked[place][0].bundle for place in places])
                    each = [slot for place, slot in zip(places, slots, strict=True) for _ in asked[place][1]]
                    stack = self._pool.stack if any(slots) else None
                    found = iter(score(Worn(self.base.model), questions, pad=pad, slots=each, stack=stack))
                for place in places:
                    scores[place] = joined([next(found) for _ in asked[place][1]])
        return scores

    def _batches(self, tenants: Sequence[Tenant]) -> list[list[int]]:
        """Places that may share forwards: one prefix, or at most as many LoRA adapters as there are slots."""
        batches: list[list[int]] = []
        by_prefix: dict[int, list[int]] = {}
        seated: set[int] = set()
        for place in sorted(range(len(tenants)), key=lambda place: id(tenants[place])):
            bundle = tenants[place].bundle
            if bundle is not None and bundle.lora is None:
                by_prefix.setdefault(id(bundle), []).append(place)
                continue
            adapter = set() if bundle is None else {id(bundle)}
            if not batches or len(seated | adapter) > self._pool.slots:
                batches.append([])
                seated = set()
            seated |= adapter
            batches[-1].append(place)
        return [*batches, *by_prefix.values()]

    def _slots(self, bundles: Sequence[Bundle | None]) -> list[int]:
        """Slot of each row's adapter, 0 for the bare base."""
        adapters = {id(bundle): bundle for bundle in bundles if bundle is not None}
        seats = dict(zip(adapters, self._pool.seat(list(adapters.values())), strict=True))
        return [0 if bundle is None else seats[id(bundle)] for bundle in bundles]

    def _fitting(self, request: Request, task: Task) -> Tenant:
        tenant = self.tenant(request.adapter)
        if tenant.recipe.task != task:
            raise RequestError(
                f"{tenant.name} is an adapter to {tenant.recipe.task}, not to {task}",
                next_step=f"ask it with `{tenant.recipe.task}`",
            )
        return tenant


def _key(adapter: Adapter) -> Any:
    return adapter if isinstance(adapter, str) else id(adapter)


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
