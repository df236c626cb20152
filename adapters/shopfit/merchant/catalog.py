"""A merchant's catalog: the items that can be recommended."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_SAID = ("title", "variant", "brand", "category", "description")


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    Args:
        id: unique within its catalog.
        title: as a shop would print it.
        fields: everything the catalog says of it, `id` and `title` included.
    """

    id: str
    title: str
    fields: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Title, variant, brand, category and description in one line, for retrieval."""
        return " ".join(str(self.fields[name]) for name in _SAID if self.fields.get(name))


class Catalog(Mapping[str, Item]):
    """Items by id, in the order of their file."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._items = dict(items)

    @classmethod
    def of_titles(cls, titles: Iterator[str]) -> "Catalog":
        """A catalog of plain titles, each its own id: what a merchant without a catalog ranks."""
        return cls({title: Item(title, title, {"id": title, "title": title}) for title in titles})

    @cached_property
    def currencies(self) -> frozenset[str]:
        """Currencies that prices are in, as far as items name one."""
        named = (item.fields.get("currency") for item in self.values() if item.fields.get("price") is not None)
        return frozenset(currency for currency in named if isinstance(currency, str) and currency)

    def __getitem__(self, item: str) -> Item:
        return self._items[item]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
