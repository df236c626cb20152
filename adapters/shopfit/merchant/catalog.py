"""A merchant's catalog: the items that can be recommended."""

import hashlib
import json
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shopfit.errors import DataError
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.suggestions import shown

_RULES = 4  # of which it is known what passes them
_SAID = ("title", "variant", "brand", "category", "description")


@dataclass(frozen=True, slots=True)
class Item:
    """One item.

    Args:
        id: unique within its catalog.
        title: as a shop would print it.
        fields: everything the catalog says of it, `id` and `title` included.

    Raises:
        DataError: if id or title is no text, or the fields are not names and their values.
    """

    id: str
    title: str
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        if type(self.id) is str and type(self.title) is str and type(self.fields) is dict:
            return  # as nearly always: a catalog has many items
        for name, value, kind in (("id", self.id, str), ("title", self.title, str), ("fields", self.fields, Mapping)):
            if not isinstance(value, kind):
                allowed = "text" if kind is str else "names and their values"
                raise DataError(
                    f"{name} of an item is {shown(value)} (allowed: {allowed})",
                    next_step="make one: Item('1', 'Tent', {'id': '1', 'title': 'Tent'})",
                )

    @property
    def text(self) -> str:
        """Title, variant, brand, category and description in one line, for retrieval."""
        said = map(self.fields.get, _SAID)
        return " ".join([part if type(part) is str else str(part) for part in said if part])


class Catalog(Mapping[str, Item]):
    """Items by id, in the order of their file.

    Args:
        items: each under its own id.

    Raises:
        DataError: if that is anything else.
    """

    def __init__(self, items: Mapping[str, Item]) -> None:
        if not isinstance(items, Mapping):
            raise _no_items(f"a {type(items).__name__}")
        for key, item in items.items():
            if not isinstance(item, Item) or item.id != key:
                raise _no_items(f"{shown(item.id if isinstance(item, Item) else item)} under {shown(key)}")
        self._items = dict(items)
        self._passing: dict[str, tuple[str, ...]] = {}

    @classmethod
    def of_titles(cls, titles: Iterator[str]) -> "Catalog":
        """A catalog of plain titles, each its own id: what a merchant without a catalog ranks."""
        return cls({title: Item(title, title, {"id": title, "title": title}) for title in titles})

    @cached_property
    def currencies(self) -> frozenset[str]:
        """Currencies that prices are in, as far as items name one."""
        named = (item.fields.get("currency") for item in self.values() if item.fields.get("price") is not None)
        return frozenset(currency for currency in named if isinstance(currency, str) and currency)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that the catalog says."""
        said = hashlib.sha256()
        for item in self.values():
            said.update(json.dumps(dict(item.fields), sort_keys=True, default=str).encode())
            said.update(b"\n")
        return said.hexdigest()

    def passing(self, rules: Rules) -> tuple[str, ...]:
        """Ids of the items that pass rules, which is found out once."""
        said = rules.model_dump_json()
        found = self._passing.get(said)
        if found is None:
            found = tuple(item for item, entry in self._items.items() if rules.allow(entry.fields))
            if len(self._passing) >= _RULES:
                self._passing = {}
            self._passing[said] = found
        return found

    def __getitem__(self, item: str) -> Item:
        return self._items[item]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def items(self) -> ItemsView[str, Item]:
        """Ids with their items; as those of a dict, which are faster than a mapping's."""
        return self._items.items()

    def values(self) -> ValuesView[Item]:
        """The items."""
        return self._items.values()


def _no_items(seen: str) -> DataError:
    return DataError(
        f"a catalog is made of {seen} (allowed: items, each under its own id)",
        next_step="make one: Catalog({item.id: item for item in items})",
    )
