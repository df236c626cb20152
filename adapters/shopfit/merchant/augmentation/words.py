"""The words of a text, and which of them a step may change."""

import re
from collections.abc import Callable, Container
from random import Random

_TOKEN = re.compile(r"\S+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")  # u2019 is the typographic apostrophe
_EDGE = re.compile(r"^\W+|\W+$")
_ADDRESS = re.compile(r"[@/\\_]|\w\.\w")
_NEGATIONS = re.compile(  # without one of these a text says the opposite
    r"no|not|nor|never|none|nothing|nobody|nowhere|neither|without|hardly|barely|cannot|\w*n['\u2019]t", re.IGNORECASE
)


def vary(
    text: str,
    draw: Random,
    share: float,
    change: Callable[[str], str | None],
    *,
    ids: Container[str] = frozenset(),
    least: int = 1,
) -> str:
    """Change a share of a text's words; everything between them stays.

    Numbers, addresses, ids, negations, and words that `change` has nothing for are left alone.

    Args:
        text: any.
        draw: decides which.
        share: of the words that may be changed; at least one of them is.
        change: another text for a word, or None; the empty text takes the word out, as long as something stays.
        ids: words, in lower case, that must stay, such as ids of items.
        least: letters of the shortest word that may be changed.
    """
    places = [match for match in _words(text, ids) if len(match[0]) >= least]
    wanted = max(1, round(share * len(places)))
    changes: dict[int, tuple[int, str]] = {}
    for match in draw.sample(places, len(places)):
        if len(changes) == wanted:
            break
        changed = change(match[0])
        if changed is not None and changed != match[0]:
            changes[match.start()] = match.end(), changed
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


def _words(text: str, ids: Container[str]) -> list[re.Match[str]]:
    found = []
    for token in _TOKEN.finditer(text):
        bare = _EDGE.sub("", token[0]).casefold()
        if bare in ids or any(letter.isdigit() for letter in bare) or _ADDRESS.search(bare):
            continue
        found += [word for word in _WORD.finditer(text, *token.span()) if not _NEGATIONS.fullmatch(word[0])]
    return found
