"""Adapters in host memory, up to a budget of bytes; those in use stay, of the others the least recently used go."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from shopfit.adapter.weights import Weights
from shopfit.base.prompt import Prompter
from shopfit.engine.answering import Floats
from shopfit.engine.tenant import Tenant

Tokens = tuple[int, ...]

_RECIPE, _ITEM, _VECTOR = 64 * 1024, 2 * 1024, 4 * 1024  # bytes
_LABELS = 256  # texts besides a catalog's whose vectors are kept


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """One adapter, ready to answer.

    Args:
        key: what it is known by.
        tenant: its recipe and items.
        prompter: writes its prompts.
        weights: its numbers; None for the bare base.
        vectors: on an encoder: of the texts of items and labels, (D,) each.
    """

    key: Hashable
    tenant: Tenant
    prompter: Prompter
    weights: Weights | None
    vectors: dict[Tokens, Floats] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory it takes: its weights, and about as much as recipe, items and vectors take in Python."""
        items = len(self.tenant.catalog or ()) + len(self.tenant.history or ())
        vectors = _VECTOR * self._room if self.prompter.encoder else 0
        return (0 if self.weights is None else self.weights.bytes) + _RECIPE + _ITEM * items + vectors

    @property
    def _room(self) -> int:
        return len(self.tenant.catalog or ()) + _LABELS

    def keep(self, text: Tokens, vector: Floats) -> None:
        """Remember a text's vector; when there are more than the catalog can have, all others go."""
        if len(self.vectors) >= self._room:
            self.vectors.clear()
        self.vectors[text] = vector


class HostMemory:
    """Loaded adapters. Any thread may use it.

    Args:
        budget: bytes of weights to keep at most. What is in use may not be dropped, so loading waits for it; one
            adapter always fits.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._kept: OrderedDict[Hashable, Loaded] = OrderedDict()
        self._pins: Counter[Hashable] = Counter()
        self._change = threading.Condition()
        self._closed = False

    @property
    def adapters(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def hold(self, key: Hashable) -> Loaded | None:
        """The adapter, if it is there; it stays until it was released as often as it was held."""
        with self._change:
            loaded = self._kept.get(key)
            if loaded is not None:
                self._kept.move_to_end(key)
                self._pins[key] += 1
            return loaded

    def put(self, loaded: Loaded) -> Loaded:
        """Keep an adapter, and hold it.

        Returns:
            the one that is kept: an equal one that was there before, or `loaded`.
        """
        with self._change:
            while True:
                if loaded.key in self._kept or self._make_room(loaded.bytes) or self._closed:
                    break
                self._change.wait()
            if loaded.key not in self._kept:
                self._kept[loaded.key] = loaded
                self.used += loaded.bytes
            self._kept.move_to_end(loaded.key)
            self._pins[loaded.key] += 1
            return self._kept[loaded.key]

    def release(self, loaded: Loaded) -> None:
        """A request for this adapter is over."""
        with self._change:
            self._pins[loaded.key] -= 1
            if not self._pins[loaded.key]:
                del self._pins[loaded.key]
            self._change.notify_all()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _make_room(self, size: int) -> bool:
        """Drop what is not in use until there is room, or nothing is left; whether there is room now."""
        for key in list(self._kept):
            if self.used + size <= self.budget:
                break
            if key not in self._pins:
                self.used -= self._kept.pop(key).bytes
        return self.used + size <= self.budget or self.used == 0
