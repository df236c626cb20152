"""Where names stand in a text, whatever their case, form and spacing, and whether or not its script writes spaces."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import regex

from shopfit.merchant.text import DENSE, normalised, with_places

_WORD = regex.compile(rf"[{DENSE}]\p{{M}}*|[\w--[{DENSE}]]+", regex.V1)
_SPACED = regex.compile(rf"[\w--[{DENSE}]]", regex.V1)


class Mention(NamedTuple):
    """Where a name stands in a text: from, to; and the name, normalised."""

    start: int
    end: int
    name: str


class Names:
    """Names to look for in texts; those without letters and digits are never found.

    Args:
        names: as they are written somewhere.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, dict[str, int]] = {}  # by first word, the whole name and where that stands in it
        for name in map(normalised, names):
            first = _WORD.search(name)
            if first is not None:
                self._names.setdefault(first[0], {})[name] = first.start()

    def mentions(self, text: str) -> Iterator[Mention]:
        """Every place of every name, also where they overlap. A name may be a part of a word only where one of both is
        of a script that writes no spaces.
        """
        if not self._names:
            return
        read, places = with_places(text)
        for word in _WORD.finditer(read):
            for name, ahead in self._names.get(word[0], {}).items():
                start = word.start() - ahead
                end = start + len(name)
                if start >= 0 and read.startswith(name, start) and _stands_alone(read, places, start, end):
                    yield Mention(places[start], places[end], name)

    def longest(self, text: str) -> list[Mention]:
        """The mentions in order, of those that overlap the first and longest: `Ridge 2 Tent`, not `Ridge`."""
        found: list[Mention] = []
        for one in sorted(self.mentions(text), key=lambda one: (one.start, -one.end)):
            if not found or one.start >= found[-1].end:
                found.append(one)
        return found

    def within(self, text: str) -> set[str]:
        """Those that a text mentions, normalised."""
        return {one.name for one in self.mentions(text)}


def _stands_alone(read: str, places: list[int], start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` is no part of a word, nor of a character that a reader sees."""
    if places[end] == places[end - 1] or (start and places[start] == places[start - 1]):
        return False
    return not (inside_word(read, start) or inside_word(read, end))


def inside_word(text: str, place: int) -> bool:
    """Whether the characters before and after a place are of one word of a script that writes spaces."""
    sides = text[max(0, place - 1) : place], text[place : place + 1]
    return all(side and _SPACED.match(side) for side in sides)
