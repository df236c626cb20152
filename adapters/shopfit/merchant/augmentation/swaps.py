"""Items for others of the same category of the merchant's own catalog, the same throughout an example."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from random import Random
from typing import Any

from shopfit.merchant.catalog import Item

Swaps = dict[str, Item]  # by id of the item that is replaced

_PRICE = re.compile(r"(?<![\w.,])\d+(?:[.,]\d{1,2})?(?![\w]|[.,]\d)")
_MONEY = re.compile(r"[€$£¥]|\b(?:eur|euros?|usd|dollars?|gbp|pounds?|bucks)\b", re.IGNORECASE)
_NEAR_PRICE = 8  # characters beside a number in which its currency stands


class Shelf:
    """A merchant's items by category, and by what texts call them.

    Args:
        items: of every catalog that the recipe names.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items: dict[str, Item] = {item.id: item for item in items}
        self._categories: dict[str, list[Item]] = {}
        self._names: dict[str, dict[str, list[Item]]] = {}  # first word, then the whole name, in lower case
        for item in self._items.values():
            if _slot(item, "category"):
                self._categories.setdefault(_slot(item, "category"), []).append(item)
            for name in filter(None, (item.title, _slot(item, "brand"))):
                first = _first_word(name)
                self._names.setdefault(first, {}).setdefault(name.casefold(), []).append(item)

    def of_history(self, history: Sequence[str], keep: Collection[str], share: float, draw: Random) -> Swaps:
        """Other items for a share of a history's; those in `keep`, which the answer is about, take no part."""
        swaps: Swaps = {}
        taken = {*history, *keep}
        for key in dict.fromkeys(history):
            if key in keep or key not in self._items or draw.random() >= share:
                continue
            others = [item for item in self._others(self._items[key]) if item.id not in taken]
            if others:
                swaps[key] = draw.choice(others)
                taken.add(swaps[key].id)
        return swaps

    def of_text(self, texts: Sequence[str], answer: str, draw: Random) -> Swaps:
        """Other items for those that texts mention by title or brand, unless the answer mentions them."""
        swaps: Swaps = {}
        for name, items in self._mentioned(texts):
            if any(item.id in swaps for item in items) or _mentions(answer, name):
                continue
            by_brand = name != items[0].title.casefold()
            old = draw.choice(items)
            lost = [slot for slot in ("title", "brand", "price") if _says(texts, old, slot)]
            others = [item for item in self._others(old) if all(_slot(item, slot) for slot in lost)]
            others = [item for item in others if not _mentions(answer, item.title)]
            if by_brand:
                others = [item for item in others if _slot(item, "brand").casefold() not in {"", name}]
            if others and not any(_mentions(text, old.id) for text in texts):
                swaps[old.id] = draw.choice(others)
        return swaps

    def rewrite(self, text: str, swaps: Swaps, keep: Collection[str] = ()) -> str:
        """A text with the titles, brands and prices of some items replaced by those of others.

        Args:
            text: any.
            swaps: the items to replace, and their replacements.
            keep: ids whose titles and brands stay.
        """
        stays = {name.casefold() for key in keep if key in self._items for name in _names(self._items[key])}
        names: dict[str, str] = {}
        for key, new in swaps.items():
            old = self._items[key]
            for gone, comes in zip(_names(old), _names(new), strict=True):
                if gone and comes and gone.casefold() not in stays:
                    names.setdefault(gone.casefold(), comes)
        for key, new in swaps.items():
            if _mentions(text, self._items[key].title):  # a brand alone does not say which of its items costs that
                text = _reprice(text, self._items[key], new)
        if not names:
            return text
        longest = sorted(names, key=len, reverse=True)
        found = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)
        return found.sub(lambda match: _like(match[0], names.get(match[0].casefold(), match[0])), text)

    def _others(self, item: Item) -> list[Item]:
        same = self._categories.get(_slot(item, "category"), [])
        return [other for other in same if other.id != item.id and other.title.casefold() != item.title.casefold()]

    def _mentioned(self, texts: Sequence[str]) -> Iterator[tuple[str, list[Item]]]:
        """Names of items that stand in texts, the longest first: `Ridge 2 Tent` is found before `Ridge`."""
        words = dict.fromkeys(word for text in texts for word in re.findall(r"\w+", text.casefold()))
        known = [pair for word in words for pair in self._names.get(word, {}).items()]
        found = [(name, items) for name, items in known if any(_mentions(text, name) for text in texts)]
        yield from sorted(found, key=lambda pair: (-len(pair[0]), pair[0]))


def _slot(item: Item, name: str) -> str:
    value: Any = item.title if name == "title" else item.fields.get(name)
    return "" if value is None else str(value).strip()


def _names(item: Item) -> tuple[str, str]:
    return item.title, _slot(item, "brand")


def _first_word(name: str) -> str:
    found = re.search(r"\w+", name.casefold())
    return found[0] if found else ""


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def _says(texts: Sequence[str], item: Item, slot: str) -> bool:
    """Whether texts hold a slot of an item."""
    if slot == "price":
        return any(True for text in texts for _ in _prices(text, item))
    return bool(_slot(item, slot)) and any(_mentions(text, _slot(item, slot)) for text in texts)


def _prices(text: str, item: Item) -> Iterator[re.Match[str]]:
    """Where an item's price stands: the number, with a currency beside it."""
    price = item.fields.get("price")
    if not isinstance(price, int | float):
        return
    for match in _PRICE.finditer(text):
        beside = text[max(0, match.start() - _NEAR_PRICE) : match.end() + _NEAR_PRICE]
        if float(match[0].replace(",", ".")) == price and _MONEY.search(beside):
            yield match


def _reprice(text: str, old: Item, new: Item) -> str:
    price = new.fields.get("price")
    if not isinstance(price, int | float):
        return text
    for match in reversed(list(_prices(text, old))):
        _, comma, cents = match[0].partition("," if "," in match[0] else ".")
        written = f"{price:.{len(cents)}f}".replace(".", comma or ".")
        text = text[: match.start()] + written + text[match.end() :]
    return text


def _like(seen: str, name: str) -> str:
    """A name in lower case where the one that stood there was."""
    return name.lower() if seen == seen.lower() else name
