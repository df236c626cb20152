"""What pages read of the registry again and again, read once a change of it: what it keeps, its keys, and manifests."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shopfit.adapter.bundle import Manifest
from shopfit.errors import BundleError, RecipeError
from shopfit.recipe.names import HOUSE, SLUG
from shopfit.registry import Key, Registry, Revision, Version
from shopfit.registry.overview import Stored

_MANIFESTS = 500  # that stay in memory, 10 kB each
_REFERENCE = re.compile(rf"(?<![a-z0-9-])({SLUG})/{SLUG}@[1-9][0-9]*", re.ASCII)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Keeper:
    """A merchant, and what the registry keeps of it.

    Args:
        name: of the merchant.
        adapters: of it, by name.
    """

    name: str
    adapters: list[Stored]

    @property
    def versions(self) -> int:
        """How many there are."""
        return sum(one.versions for one in self.adapters)

    @property
    def bytes(self) -> int:
        """Of all their files."""
        return sum(one.bytes for one in self.adapters)


class RegistryTable:
    """What pages read. Any thread may ask.

    Args:
        registry: that is read.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._keepers = ByRevision(registry, self._read_keepers)
        self._keys = ByRevision(registry, registry.keys)
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._lock = threading.Lock()

    def keepers(self, merchant: str | None) -> list[Keeper]:
        """Every merchant that has versions, by name; of a merchant's key its own. The starters' is among all of them.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        return [one for one in self._keepers.value() if merchant in (None, one.name)]

    def keys(self, merchant: str | None) -> list[Key]:
        """Every key, or a merchant's; the newest first.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        found = [key for key in self._keys.value() if merchant in (None, key.merchant)]
        return sorted(found, key=lambda key: key.created, reverse=True)

    def manifest(self, version: Version) -> Manifest | None:
        """The manifest of a version; None if its files are damaged.

        Raises:
            UnknownReference: if the version was removed.
            RegistryError: if the registry cannot be read.
        """
        with self._lock:
            if (known := self._manifests.get(version.digest)) is not None:
                self._manifests.move_to_end(version.digest)
                return known
        try:
            found = self._registry.manifest(version)
        except (BundleError, RecipeError):
            return None
        with self._lock:
            self._manifests[version.digest] = found
            if len(self._manifests) > _MANIFESTS:
                self._manifests.popitem(last=False)
        return found

    def _read_keepers(self) -> list[Keeper]:
        grouped: dict[str, list[Stored]] = {}
        for one in self._registry.stored():
            grouped.setdefault(one.merchant, []).append(one)
        return [Keeper(name, adapters) for name, adapters in grouped.items()]


class ByRevision(Generic[T]):
    """Something of the registry that is read again only when the registry has changed.

    Args:
        registry: whose revision is looked at.
        read: reads it.
    """

    def __init__(self, registry: Registry, read: Callable[[], T]) -> None:
        self._registry, self._read = registry, read
        self._known: tuple[Revision, T] | None = None
        self._reading = threading.Lock()

    def value(self) -> T:
        """What was read.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._reading:
            revision = self._registry.revision()
            if self._known is None or self._known[0] != revision:
                self._known = revision, self._read()
            return self._known[1]


def references(text: str) -> list[str]:
    """The references in a text, such as what an adapter started from."""
    return [match[0] for match in _REFERENCE.finditer(text)]


def shown_to(text: str, merchant: str | None, other: str) -> str:
    """A text that shopfit wrote of an adapter, for a key: donors of other merchants are not named to a merchant.

    Args:
        text: such as a model card.
        merchant: whose key it is; None for the platform's.
        other: in place of another merchant's adapter.
    """
    if merchant is None:
        return text
    return _REFERENCE.sub(lambda match: match[0] if match[1] in (merchant, HOUSE) else other, text)
