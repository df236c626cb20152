"""When two spellings are one label, and when only the merchant can tell."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

from shopfit.recipe.suggestions import listed, shown

_WHOLE = re.compile(r"([+-]?\d+)[.,]0")  # of three zeros, the mark may stand between thousands
_FLAG, _TAGS = "\U0001f3f4", "".join(map(chr, range(0xE0020, 0xE0080)))
_VARIANTS = "\ufe0e\ufe0f"  # how an emoji is drawn


def label_key(label: str) -> str:
    """What two spellings of one label share: case, outer and double spaces, full and half width, canonical Unicode form
    and invisible signs do not count, and 5.0 is 5.

    Forms are NFC (Unicode Standard Annex 15), case is `str.lower`: `m²` is not `m2`, and `Maße`
    (measures) is not `Masse` (mass).
    """
    text = visible(label)
    if not text.isascii():
        text = unicodedata.normalize("NFC", "".join(map(_of_usual_width, text)))
    text = unicodedata.normalize("NFC", " ".join(text.lower().split()))
    whole = _WHOLE.fullmatch(text)
    return whole[1].removeprefix("+") if whole else text


def loose_key(label: str) -> str:
    """What labels share that may be one label or two: those of one `label_key`, and `m²` and `m2`, `Maße` and `Masse`.

    Forms are NFKC, case is `str.casefold`.
    """
    text = unicodedata.normalize("NFKC", label_key(label)).casefold()
    return label_key(unicodedata.normalize("NFKC", text))


def _of_usual_width(sign: str) -> str:
    form, *codes = unicodedata.decomposition(sign).split() or [""]
    return "".join(chr(int(code, 16)) for code in codes) if form in ("<wide>", "<narrow>") else sign


def visible(text: str) -> str:
    """A text without invisible characters: zero-width spaces and joiners, byte-order marks, direction marks."""
    if text.isascii():
        return text
    kept = _TAGS if _FLAG in text else ""  # the flags of England and Scotland differ in these alone
    return "".join(
        sign for sign in text if sign in kept or (unicodedata.category(sign) != "Cf" and sign not in _VARIANTS)
    )


def alike_labels(labels: Iterable[str]) -> list[list[str]]:
    """Labels that are one, each time there are several spellings of it."""
    spellings: dict[str, list[str]] = {}
    for label in labels:
        spellings.setdefault(label_key(label), []).append(label)
    return [alike for alike in spellings.values() if len(alike) > 1]


def alias_problems(aliases: Mapping[str, str], labels: Collection[str]) -> list[str]:
    """What is wrong with `data.label_aliases` beside `prompt.labels`; empty if nothing is."""
    problems = [
        f"data.label_aliases: for {shown(theirs)}, {shown(ours)} is not in prompt.labels (allowed: {listed(labels)})"
        for theirs, ours in aliases.items()
        if labels and ours not in labels
    ]
    problems += [
        f"data.label_aliases: {listed(alike)} are one label (allowed: one of them)" for alike in alike_labels(aliases)
    ]
    return problems
