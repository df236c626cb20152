"""The words of a text, and which of them a step may change."""

import re
from collections.abc import Callable, Container, Iterator, Sequence
from random import Random

import regex

from shopfit.merchant.mentions import Mention
from shopfit.merchant.text import clusters, parts_of, weight

_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['\u2019][\p{L}\p{M}]+)*")  # u2019 is the typographic apostrophe
_EDGE = re.compile(r"^\W+|\W+$")
_ADDRESS = re.compile(r"[@/\\_]|\w\.\w")
_NEGATIONS = re.compile(  # without one of these a text says the opposite
    r"no|not|nor|never|none|nothing|nobody|nowhere|neither|without|hardly|barely|cannot|\w*n['\u2019]t"
    r"|nicht|nichts|nie|niemals|kein\w*|niemand\w*|weder|ohne|kaum|ne|pas|jamais|rien|aucune?|sans|ni|n['\u2019]\w+"
    r"|nunca|jam\xe1s|nada|nadie|ning\xfan\w*|sin|n\xe3o|nem|sem|nenhuma?|non|mai|niente|senza|nessun\w*"
    r"|niet|geen|nooit|zonder|inte|aldrig|ikke|nie|bez|\u0644\u0627|\u0644\u064a\u0633|\u0644\u0645|\u05dc\u05d0|\u05d0\u05d9\u05df|\u03b4\u03b5\u03bd|\u03bc\u03b7\u03bd|\u0928\u0939\u0940\u0902|\u043d\u0435|\u043d\u0438|\u043d\u0435\u0442|\u0431\u0435\u0437|de\u011fil|hi\xe7|asla",
    re.IGNORECASE,
)
_DENSE_NEGATIONS = re.compile("[不没沒无無非未别別勿莫否안못없]|ない|ません|なかった|ไม่")  # likewise, without spaces
_PAIR = 2  # characters of such a script that are a word here, as most Chinese ones are


def vary(
    text: str,
    draw: Random,
    share: float,
    change: Callable[[str], str | None],
    *,
    ids: Container[str] = frozenset(),
    stay: Sequence[Mention] = (),
    least: int = 1,
) -> str:
    """Change a share of a text's words; everything between them stays. In scripts without spaces words are pairs of
    characters.

    Numbers, addresses, ids, negations, and words that `change` has nothing for are left alone.

    Args:
        text: any.
        draw: decides which.
        share: of the words that may be changed; at least one of them is.
        change: another text for a word, or None; the empty text takes the word out, as long as something stays.
        ids: words, in lower case, that must stay, such as ids of items.
        stay: places that must stay, whatever stands there.
        least: letters of the shortest word that may be changed.
    """
    places = [(start, end) for start, end in _words(text, ids, stay) if weight(text[start:end]) >= least]
    wanted = max(1, round(share * len(places)))
    changes: dict[int, tuple[int, str]] = {}
    for start, end in draw.sample(places, len(places)):
        if len(changes) == wanted:
            break
        changed = change(text[start:end])
        if changed is not None and changed != text[start:end]:
            changes[start] = end, changed
    parts, at = [], 0
    for start, (end, changed) in sorted(changes.items()):
        between = text[at:start]
        parts += [between if changed else _without_space(between), changed]
        at = end
    varied = "".join([*parts, text[at:]])
    return varied if varied.strip() else text


def _without_space(text: str) -> str:
    """Without the one space that a word which goes leaves behind."""
    return text.removesuffix(" ")


def _words(text: str, ids: Container[str], stay: Sequence[Mention]) -> list[tuple[int, int]]:
    """Where the words are that may be changed: from, to."""
    found: list[tuple[int, int]] = []
    for start, end, dense in parts_of(text):
        bare = _EDGE.sub("", text[start:end]).casefold()
        if dense:
            found += _pairs(start, text[start:end])
        elif bare not in ids and not any(letter.isdigit() for letter in bare) and not _ADDRESS.search(bare):
            words = _WORD.finditer(text, start, end)
            found += [word.span() for word in words if not _NEGATIONS.fullmatch(word[0])]
    return [(start, end) for start, end in found if not any(one.start < end and start < one.end for one in stay)]


def _pairs(start: int, text: str) -> Iterator[tuple[int, int]]:
    """Where the pairs of characters are in a text without spaces, but for those that negate something."""
    characters, at = clusters(text), 0
    negations = [found.span() for found in _DENSE_NEGATIONS.finditer(text)]
    for place in range(0, len(characters), _PAIR):
        end = at + sum(map(len, characters[place : place + _PAIR]))
        if not any(first < end and at < last for first, last in negations):
            yield start + at, start + end
        at = end
