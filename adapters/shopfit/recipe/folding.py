"""Text folded for comparing, in any language."""

import unicodedata

import regex

_MARKS = regex.compile(r"(\p{M}{8})\p{M}+")  # no letter of any language has more: sorting them takes their square
_DOTLESS = {0x131: "i"}  # Turkish has two letters where others have one: with their capitals they are one here


def folded(text: str) -> str:
    """A text for comparing: one form of each character (NFKC), without case, and without the dots by which Turkish
    tells its two i apart.
    """
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", _MARKS.sub(r"\1", text)).casefold().replace("i\u0307", "i").translate(_DOTLESS)
    return unicodedata.normalize("NFKC", text)
