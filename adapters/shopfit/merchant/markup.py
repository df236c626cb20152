"""HTML -> the text that a browser would show."""

import re
from html import unescape
from html.parser import HTMLParser

_MARKUP = re.compile(r"<[A-Za-z/!?][^<>]*>|&(#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,31});")
_LONGEST = 200_000  # characters that are read; descriptions are shorter
_UNSEEN = frozenset(("script", "style", "template", "title", "noscript", "iframe"))
_REPLACED = frozenset(("svg", "object"))  # what is in them is not seen; but all that follows is, if they never end
_INLINE_TEXT = """
a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark meter q rp rt ruby s samp small span
strike strong sub sup time tt u var wbr
"""
_INLINE = frozenset(_INLINE_TEXT.split())
_OPEN_ONLY = re.compile(r"<!--|<!\[|<\?|<!")
_NEVER_CLOSED = re.compile(r"<(?=[^<>]*(?:<|\Z))")  # the parser would look for the end of each of them


def text_of(markup: str) -> str:
    """The text of a piece of HTML on one line; what holds no markup is left as it is.

    Scripts and styles are dropped, entities decoded, and blocks, cells and line breaks separated by a space.
    """
    if "<" not in markup and "&" not in markup:
        return markup
    if not _MARKUP.search(markup):
        return markup
    cut = markup[:_LONGEST]
    if "<" not in cut:
        return " ".join(unescape(cut).split())
    reader = _Reader()
    reader.feed(_NEVER_CLOSED.sub("&lt;", _closed(cut)))
    reader.close()
    return " ".join("".join(reader.parts).split())


def _closed(markup: str) -> str:
    """Comments and declarations taken out, in one pass: a parser looks for the end of each that has none."""
    if "<!" not in markup and "<?" not in markup:
        return markup
    parts, place = [], 0
    while (start := markup.find("<", place)) >= 0:
        if not (opened := _OPEN_ONLY.match(markup, start)):
            parts.append(markup[place : start + 1])
            place = start + 1
            continue
        parts.append(markup[place:start])
        ends = "-->" if opened[0] == "<!--" else ">"
        end = markup.find(ends, start)
        if end < 0:
            return "".join(parts)
        place = end + len(ends)
        parts.append(" ")
    return "".join([*parts, markup[place:]])


class _Reader(HTMLParser):
    """Collects what is seen. Of what is open it keeps a count, so that no end tag has to look for its start."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen = ""  # the outermost element that hides what is in it
        self._depth = 0  # how many of its kind are open
        self._replaced: dict[str, tuple[int, int]] = {}  # how many are open, and how many parts stood before the first

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser passes it
        if self._unseen:
            self._depth += tag == self._unseen
        elif tag in _UNSEEN:
            self._unseen, self._depth = tag, 1
        elif tag in _REPLACED:
            depth, before = self._replaced.get(tag, (0, len(self.parts)))
            self._replaced[tag] = depth + 1, before
            self.parts.append(" ")
        elif tag not in _INLINE:
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser passes it
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            self._depth -= tag == self._unseen
            if self._depth == 0:
                self._unseen = ""
        elif tag in self._replaced:
            self._end_of_replaced(tag)
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)

    def _end_of_replaced(self, tag: str) -> None:
        depth, before = self._replaced[tag]
        if depth > 1:
            self._replaced[tag] = depth - 1, before
            return
        del self.parts[before:]
        self._replaced = {other: place for other, place in self._replaced.items() if place[1] < before}
