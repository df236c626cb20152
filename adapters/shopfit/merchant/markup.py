"""HTML -> the text that a browser would show."""

import re
from html import unescape
from html.parser import HTMLParser

_MARKUP = re.compile(r"<[A-Za-z/!?][^<>]*>|&(#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,31});")
_LONGEST = 200_000  # characters that are read: what a page says of a product is shorter
_UNSEEN = frozenset(("script", "style", "template", "head", "noscript", "iframe", "svg", "object"))
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
    """Collects what is seen."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser passes it
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif tag not in _INLINE:
            self.parts.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser passes it
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            while self._unseen.pop() != tag:
                pass
        if tag not in _INLINE:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)
