"""Items for others of the same category of the merchant's own catalog, the same throughout an example."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from random import Random
from typing import Any

from shopfit.merchant.catalog import Item
from shopfit.merchant.mentions import Names, inside_word
from shopfit.merchant.text import clusters, normalised, parts_of
from shopfit.recipe.currencies import currency_of, is_code

Swaps = dict[str, Item]  # by id of the item that is replaced

_PRICE = re.compile(r"(?<![\d.,'])\d+(?:[.,]\d{1,2})?(?!\d|[.,']\d)")
_MOST = 8  # characters of a currency, with a sign that ends the sentence
_AHEAD = re.compile(rf"(\S{{1,{_MOST}}})[ \xa0\u202f]?$")  # what may be a currency before a number, and behind it
_BEHIND = re.compile(rf"(?:[.,]?[-\u2013\u2014]{{1,2}})?[ \xa0\u202f]?[(]?(\S{{1,{_MOST}}})")
_SPOKEN = {"dollar", "dollars", "pound", "pounds", "bucks", "eur", "usd", "gbp", "chf"}


class Shelf:
    """A merchant's items by category, and by what texts call them.

    Args:
        items: of every catalog that the recipe names.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items: dict[str, Item] = {item.id: item for item in items}
        self._categories: dict[str, list[Item]] = {}
        self._named: dict[str, list[Item]] = {}  # by name, normalised
        for item in self._items.values():
            if _slot(item, "category"):
                self._categories.setdefault(_slot(item, "category"), []).append(item)
            for name in filter(_is_name, (item.title, _slot(item, "brand"))):
                self._named.setdefault(normalised(name), []).append(item)
        self._names = Names(self._named)

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
        answered = self._names.within(answer)
        there = {name for text in texts for name in self._names.within(text)}
        for name in sorted({one.name for text in texts for one in self._names.longest(text)}, key=_longest_first):
            items = self._named[name]
            if any(item.id in swaps for item in items) or name in answered:
                continue
            old = draw.choice(items)
            by_brand = name != normalised(old.title)
            lost = [slot for slot in ("title", "brand") if normalised(_slot(old, slot)) in there]
            lost += ["price"] if any(True for text in texts for _ in _prices(text, old)) else []
            others = [item for item in self._others(old) if all(_slot(item, slot) for slot in lost)]
            others = [item for item in others if normalised(item.title) not in answered]
            if by_brand:
                others = [item for item in others if normalised(_slot(item, "brand")) not in {"", name}]
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
        stays = {normalised(name) for key in keep if key in self._items for name in _names(self._items[key])}
        names: dict[str, str] = {}
        for key, new in swaps.items():
            old = self._items[key]
            for gone, comes in zip(_names(old), _names(new), strict=True):
                if gone and comes and normalised(gone) not in stays:
                    names.setdefault(normalised(gone), comes)
        there = self._names.within(text)
        for key, new in swaps.items():
            if normalised(self._items[key].title) in there:  # a brand does not say which of its items costs that
                text = _reprice(text, self._items[key], new)
        for start, end, name in reversed(self._names.longest(text)):
            if name in names:
                text = text[:start] + _like(text[start:end], names[name]) + text[end:]
        return text

    def _others(self, item: Item) -> list[Item]:
        same = self._categories.get(_slot(item, "category"), [])
        title = normalised(item.title)
        return [other for other in same if other.id != item.id and normalised(other.title) != title]


def _slot(item: Item, name: str) -> str:
    value: Any = item.title if name == "title" else item.fields.get(name)
    return "" if value is None else str(value).strip()


def _names(item: Item) -> tuple[str, str]:
    return item.title, _slot(item, "brand")


def _is_name(name: str) -> bool:
    """Whether a name can be told from a part of a word: one character of a script without spaces cannot."""
    return len(clusters(name)) > 1 or not any(dense for _, _, dense in parts_of(name))


def _longest_first(name: str) -> tuple[int, str]:
    return -len(name), name


def _mentions(text: str, name: str) -> bool:
    return bool(Names([name]).within(text))


def _prices(text: str, item: Item) -> Iterator[re.Match[str]]:
    """Where an item's price stands: the number, with a currency beside it."""
    price = item.fields.get("price")
    if not isinstance(price, int | float):
        return
    for match in _PRICE.finditer(text):
        if float(match[0].replace(",", ".")) == price and _has_currency(text, match):
            yield match


def _has_currency(text: str, number: re.Match[str]) -> bool:
    """Whether a currency stands beside a number."""
    start, end = number.span()
    before, behind = _AHEAD.search(text[:start]), _BEHIND.match(text, end)
    ahead = before is not None and any(
        _is_currency(before[1][place:]) for place in range(len(before[1])) if not inside_word(before[1], place)
    )
    after = behind is not None and any(
        _is_currency(behind[1][:place]) for place in range(1, _MOST + 1) if not inside_word(behind[1], place)
    )
    if (inside_word(text, start) and not ahead) or (inside_word(text, end) and not after):
        return False  # `A79 €`
    return ahead or after


def _is_currency(text: str) -> bool:
    """Whether a text is a currency; a code in small letters may be another word (`all`, `top`), but for some."""
    small = text.lower()
    return small in _SPOKEN or (currency_of(text) is not None and not (is_code(text) and text == small))


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
    return name.lower() if seen == seen.lower() != seen.upper() else name
