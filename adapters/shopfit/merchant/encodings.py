"""Text of a file: read in the encoding the recipe names; and which one to name, where it is another."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import get_args

from shopfit.merchant.one_byte import among_ascii, is_cyrillic, latin
from shopfit.recipe.schema import Encoding

_CODECS: Mapping[str, str] = {"utf-8": "utf-8-sig", "windows-1252": "cp1252", "shift_jis": "cp932", "euc-kr": "cp949"}
_PAIRED = {"gb18030", "big5", "shift_jis", "euc-kr", "euc-jp"}  # encodings with letters of two bytes
_HIGH = re.compile(r"[^\x00-\x7f]")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_LOOKED_AT = 65_536  # bytes, from the first letter beyond ASCII on
_ENOUGH, _HANGUL = 16, 1.01  # bytes of letters, all of them Hangul's, that are no chance in Chinese


class NotInEncoding(Exception):  # noqa: N818 - reads as what it is
    """Bytes that are no text in their encoding.

    Args:
        line: of the first of them, from 1; None if it is not known.
        what: what is wrong, and what they look like.
        allowed: what to do.
    """

    def __init__(self, line: int | None, what: str, allowed: str) -> None:
        super().__init__(what)
        self.line, self.what, self.allowed = line, what, allowed


def decode(content: bytes, encoding: str) -> str:
    """The text of a file; a byte order mark is left out.

    What is UTF-8 to its end is read as UTF-8, whatever the encoding: nothing else looks like it, and a merchant's files
    may come from several programs. Only where the encoding has letters of two bytes, a few of these may be taken for
    UTF-8, so there it takes eight letters, one of three bytes, or letters that make words.

    Args:
        content: the file's bytes.
        encoding: of those that are not in UTF-8; one of `recipe.schema.Encoding`.

    Raises:
        NotInEncoding: if the bytes are no text in it.
    """
    wide = _utf_16(content)
    if wide and not encoding.startswith("utf-16"):
        raise NotInEncoding(1, f"is not {encoding.upper()}; it looks like utf-16", _next("utf-16"))
    if not wide and encoding != "utf-8" and (text := _as_utf_8(content, encoding)) is not None:
        return text
    try:
        return content.decode(wide or _CODECS.get(encoding, encoding)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = None if encoding.startswith("utf-16") else content.count(b"\n", 0, error.start) + 1
        likely = guesses(content)
        seen = f"byte 0x{content[error.start]:02x} is not {encoding.upper()}"
        if not likely or likely == (encoding,):
            allowed = f"a file saved as UTF-8, or data.encoding: {', '.join(get_args(Encoding))}"
            raise NotInEncoding(line, seen, allowed) from None
        raise NotInEncoding(line, f"{seen}; the file looks like {' or '.join(likely)}", _next(*likely)) from None


def is_binary(content: bytes) -> bool:
    """Whether bytes are no text: they begin as no text does, or have zeros and are neither UTF-16 nor UTF-8."""
    if content.startswith((b"\x89PNG", b"\xff\xd8\xff", b"\x1f\x8b", b"%PDF-")):
        return True
    return b"\0" in content[:_LOOKED_AT] and not _utf_16(content) and not _in(content, "utf-8")


def guesses(content: bytes) -> tuple[str, ...]:
    """The encodings that a text which is not UTF-8 is probably in, of those that can be named, the likeliest first;
    several where they make letters of it that are about as usual, none for no idea.
    """
    if _utf_16(content):
        return ("utf-16",)
    first = _BEYOND_ASCII.search(content)
    start = content[first.start() :][:_LOOKED_AT] if first else b""
    high = [place for place, byte in enumerate(start) if byte >= 0x80]
    if not high or b"\0" in start:
        return ()
    together = sum(later - earlier == 1 for earlier, later in itertools.pairwise(high))
    if together < 0.4 * len(high):  # letters with accents stand alone; those of other scripts are words
        return latin(content)
    scores = {name: score(start) for name, score in _SCRIPTS.items() if name != "euc-kr" or len(high) >= _ENOUGH}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] > 0.5:
        return (best,)
    return latin(content) if among_ascii(start) else ()


def _next(*likely: str) -> str:
    first, *others = likely
    if not others:
        return f"utf-8; or say so: data.encoding: {first}"
    return f"utf-8; or the one that shows its letters right: data.encoding: {first}, or {', or '.join(others)}"


def _utf_16(content: bytes) -> str:
    """The codec of text in UTF-16, by its mark or by the zeros of its ASCII letters; empty for other text."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = content[:4096]
    first, second = start[::2].count(0), start[1::2].count(0)
    if max(first, second) < max(2, len(start) // 50) or min(first, second) * 20 > max(first, second):
        return ""
    codec = "utf-16-be" if first > second else "utf-16-le"
    return codec if _in(start[: len(start) // 2 * 2], codec) else ""


def _as_utf_8(content: bytes, encoding: str) -> str | None:
    """The text of what is UTF-8 although the encoding is another; None if it is not."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        return text
    more = len(content) - len(text)  # bytes of letters, their first ones apart
    if encoding.startswith("utf-16"):
        return None if "\0" in text else text  # in UTF-16 the end of a line has a zero
    likely = more >= _ENOUGH // 2 or encoding not in _PAIRED or not _in(content, _CODECS.get(encoding, encoding))
    return text if likely or not more or _makes_words(text) else None


def _makes_words(text: str) -> bool:
    """Whether the few letters of a text beyond ASCII are likely to be meant: 茅 in GB 18030 is é in UTF-8."""
    places = [found.start() for found in _HIGH.finditer(text)]
    letters = "".join(text[place] for place in places)
    if max(letters) > "\u07ff":  # three bytes
        return True
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
    if not letters.isalpha() or len(scripts) > 1:
        return False
    if scripts != {"LATIN"}:
        return len(letters) > 1
    return all(_beside(text, place) for place in places)


def _beside(text: str, place: int) -> bool:
    return any(sign.isascii() and sign.isalpha() for sign in (text[place - 1 : place], text[place + 1 : place + 2]))


def _in(content: bytes, codec: str) -> bool:
    try:
        content.decode(codec)
    except UnicodeDecodeError as error:
        return len(content) >= 4096 and error.start >= len(content) - 4  # a letter that was cut at the end
    return True


def _pairs(content: bytes, codec: str, common: Callable[[int], bool]) -> float:
    """The share of letters of two bytes whose first one is among those of the script's common letters."""
    if not _in(content, codec):
        return 0.0
    letters = [letter for letter in content.decode(codec, "ignore") if letter > "\x7f"]
    leads = [letter.encode(codec)[0] for letter in letters if len(letter.encode(codec)) == 2]
    return sum(map(common, leads)) / max(1, len(letters))


def _cyrillic(content: bytes) -> float:
    high = [byte for byte in content if byte >= 0x80]
    lower = sum(byte >= 0xE0 or byte == 0xB8 for byte in high) / len(high)
    return lower if _in(content, "cp1251") and not among_ascii(content) and is_cyrillic(content) else 0.0


# the common letters of each script, by the first byte of their code
_SCRIPTS: Mapping[str, Callable[[bytes], float]] = {
    "gb18030": lambda content: _pairs(content, "gb18030", lambda lead: 0xB0 <= lead <= 0xD7 or lead in (0xA1, 0xA3)),
    "big5": lambda content: _pairs(content, "big5", lambda lead: 0xA4 <= lead <= 0xC6 or lead == 0xA1),
    "shift_jis": lambda content: _pairs(content, "cp932", lambda lead: 0x81 <= lead <= 0x97),
    # Chinese has common letters in these places and in as many others
    "euc-kr": lambda content: _HANGUL * _pairs(content, "cp949", lambda lead: 0xB0 <= lead <= 0xC8),
    "euc-jp": lambda content: _pairs(content, "euc_jp", lambda lead: lead in (0xA1, 0xA4, 0xA5) or lead < 0xCF) * 0.9,
    "windows-1251": _cyrillic,
}
