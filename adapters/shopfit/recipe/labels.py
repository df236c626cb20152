"""When two spellings are one label."""

import re
import unicodedata

_WHOLE = re.compile(r"([+-]?\d+)[.,]0")  # of three zeros, the mark may stand between thousands
_FLAG, _TAGS = "\U0001f3f4", "".join(map(chr, range(0xE0020, 0xE0080)))
_VARIANTS = "\ufe0e\ufe0f"  # how an emoji is drawn


def label_key(label: str) -> str:
    """What two spellings of one label share: case, outer and double spaces, Unicode form and invisible signs do not
    count, and 5.0 is 5.

    Forms are NFKC (Unicode Standard Annex 15), case is `str.casefold`.
    """
    text = " ".join(visible(unicodedata.normalize("NFKC", label)).casefold().split())
    text = unicodedata.normalize("NFKC", text)
    whole = _WHOLE.fullmatch(text)
    return whole[1].removeprefix("+") if whole else text


def visible(text: str) -> str:
    """A text without signs that nobody sees: zero-width spaces and joiners, byte-order marks, direction marks."""
    if text.isascii():
        return text
    kept = _TAGS if _FLAG in text else ""  # England's flag is Scotland's but for these
    return "".join(
        sign for sign in text if sign in kept or (unicodedata.category(sign) != "Cf" and sign not in _VARIANTS)
    )
