"""Adapters in host memory, up to a budget of bytes: those in use stay, the least recently used others are evicted."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import islice

from shopfit.adapter.weights import Key, Weights
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import Tokens
from shopfit.base.scoring.scorer import Floats
from shopfit.engine.status import Held
from shopfit.tasks.tenant import Tenant

_RECIPE, _VECTOR = 64 * 1024, 4 * 1024  # bytes
_TOLD = 50  # adapters that a status names
_LABELS = 256  # texts besides a catalog's whose vectors are kept


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """One adapter, ready to answer.

    Args:
        key: identifies it in the cache.
        tenant: its recipe and items.
        prompter: writes its prompts.
        weights: of the adapter; None for the bare base.
        vectors: on an encoder: (D,) of each item's or label's text.
        bytes: memory of its weights, and an estimate of that of its manifest, recipe, blend, items and vectors.
    """

    key: Hashable
    tenant: Tenant
    prompter: Prompter
    weights: Weights | None
    vectors: dict[Tokens, Floats] = field(default_factory=dict)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        weights = 0 if self.weights is None else self.weights.bytes
        vectors = _VECTOR * self._room if self.prompter.encoder else 0
        object.__setattr__(self, "bytes", weights + vectors + _RECIPE + self.tenant.bytes)

    @property
    def merchant(self) -> str:
        """The merchant that owns the adapter."""
        return self.tenant.merchant

    @property
    def digest(self) -> str:
        """SHA-256 of its bundle; empty for the bare base and for tenants that callers assembled."""
        return self.key if isinstance(self.key, str) else ""

    @property
    def _room(self) -> int:
        return len(self.tenant.catalog or ()) + _LABELS

    def named(self, name: str) -> "Loaded":
        """The same adapter under the name a request used: one bundle can be several versions."""
        if self.tenant.name == name:
            return self
        other = copy(self)  # not made anew: its bytes were counted once
        object.__setattr__(other, "tenant", replace(self.tenant, name=name))
        return other

    def keep(self, text: Tokens, vector: Floats) -> None:
        """Cache a text's vector; the cache is cleared when it holds more vectors than the catalog has texts."""
        if len(self.vectors) >= self._room:
            self.vectors.clear()
        self.vectors[text] = vector


class AdapterCache:
    """Loaded adapters. Any thread may use it.

    While several merchants compete, each has an equal share of the budget; a merchant alone may use all of it. Unused
    adapters of merchants above their share are evicted first. A merchant below its share need not wait for adapters
    that others have in use: for it the cache may grow up to twice the budget.

    Args:
        budget: bytes of weights to keep at most. Adapters in use are never dropped, so loading waits for them; one
            adapter always fits.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._kept: OrderedDict[Hashable, Loaded] = OrderedDict()
        self._of: Counter[str] = Counter()  # bytes by merchant
        self._pins: Counter[Hashable] = Counter()
        self._unwanted: set[Hashable] = set()
        self._change = threading.Condition()
        self._closed = False

    @property
    def adapters(self) -> int:
        """How many adapters are in the cache."""
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        """Whether an adapter is in the cache, also when it is dropped but still in use."""
        return key in self._kept

    def held(self, seated: Callable[[Key], bool]) -> tuple[Held, ...]:
        """The adapters that were asked last, the last one first; `seated` says which weights are in a slot."""
        with self._change:
            recent = [self._kept[key] for key in islice(reversed(self._kept), _TOLD)]
        return tuple(
            Held(one.tenant.name, one.digest, one.bytes, one.weights is not None and seated(one.weights.key))
            for one in recent
        )

    def hold(self, key: Hashable) -> Loaded | None:
        """The adapter, if it is cached; it stays until it was released as often as it was held."""
        with self._change:
            loaded = self._kept.get(key)
            if loaded is not None:
                self._kept.move_to_end(key)
                self._pins[key] += 1
            return loaded

    def put(self, loaded: Loaded) -> Loaded:
        """Add an adapter to the cache, and hold it.

        Returns:
            the cached adapter: one of the same key that was there before, or `loaded`.
        """
        with self._change:
            while True:
                if loaded.key in self._kept or self._make_room(loaded) or self._closed:
                    break
                self._change.wait()
            self._unwanted.discard(loaded.key)
            if loaded.key not in self._kept:
                self._kept[loaded.key] = loaded
                self.used += loaded.bytes
                self._of[loaded.merchant] += loaded.bytes
            self._kept.move_to_end(loaded.key)
            self._pins[loaded.key] += 1
            return self._kept[loaded.key]

    def release(self, loaded: Loaded) -> None:
        """A request for this adapter is over."""
        with self._change:
            self._pins[loaded.key] -= 1
            if not self._pins[loaded.key]:
                del self._pins[loaded.key]
                if loaded.key in self._unwanted:
                    self._drop(loaded.key)
            self._change.notify_all()

    def drop(self, key: Hashable) -> Loaded | None:
        """Drop an adapter that no reference names any more: now, or when the last request for it has ended.

        Returns:
            the adapter, if it was cached.
        """
        with self._change:
            loaded = self._kept.get(key)
            if loaded is not None:
                self._unwanted.add(key)
                if key not in self._pins:
                    self._drop(key)
                    self._change.notify_all()
            return loaded

    def close(self) -> None:
        """Wake every thread that waits for room."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _make_room(self, loaded: Loaded) -> bool:
        """Evict unused adapters until there is room, or none is left; whether the adapter may be added now."""
        size = loaded.bytes
        while self.used + size > self.budget and (key := self._next_to_go(loaded.merchant)) is not None:
            self._drop(key)
        if self.used + size <= self.budget or self.used == 0:
            return True
        share = self.budget // len(self._of.keys() | {loaded.merchant})
        return self._of[loaded.merchant] + size <= share and self.used + size <= 2 * self.budget

    def _next_to_go(self, wanting: str) -> Hashable | None:
        """The least recently used adapter that is not in use, merchants above their share first."""
        idle = [key for key in self._kept if key not in self._pins]
        share = self.budget // len(self._of.keys() | {wanting})
        return next((key for key in idle if self._of[self._kept[key].merchant] > share), next(iter(idle), None))

    def _drop(self, key: Hashable) -> None:
        loaded = self._kept.pop(key)
        self._unwanted.discard(key)
        self.used -= loaded.bytes
        self._of[loaded.merchant] -= loaded.bytes
        if not self._of[loaded.merchant]:
            del self._of[loaded.merchant]
