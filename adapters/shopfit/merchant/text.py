"""Text in any language: how it is compared, and what its words are.

Scripts that write no spaces between words are read by their characters (grapheme clusters, UAX 29) and pairs of them:
on searches of a Chinese shop BM25 finds more by both than by the words of a dictionary (docs/benchmarks/languages.md).
"""

import string
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import regex

from shopfit.recipe.folding import folded
from shopfit.recipe.label_spelling import visible

DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""The scripts that write no spaces between words, and Korean's, as the inside of a set of a regular expression."""
_RUN = regex.compile(rf"(?P<dense>(?:[{DENSE}]\p{{M}}*)+)|[\w--[{DENSE}]][\w--[{DENSE}]]+", regex.V1)
_ASCII_WORD = regex.compile(r"\b\w\w+\b", regex.ASCII)
_PART = regex.compile(rf"(?P<dense>(?:[{DENSE}]\p{{M}}*)+)|[^\s{DENSE}]+", regex.V1)
_CLUSTER = regex.compile(r"\X")
_SHORT_VOWELS = regex.compile(r"[\u064b-\u065f\u0670\u0640]")  # of Arabic, and the line that stretches a word
_UNSEEN = regex.compile(r"[\p{Default_Ignorable_Code_Point}--[\U000e0020-\U000e007f]]", regex.V1)  # beside `visible`
_ACCENTS = regex.compile(r"(\p{Latin})\p{M}+")
_MORE = 2  # letters that a dense character says more than one
_PER_WORD = 2  # characters of a dense script that say about as much as a word


def normalised(text: str) -> str:
    """A folded text with single spaces, and without what a writer of the same words may leave out: signs that show
    nothing (zero-width ones, variation selectors) and the short vowels and stretching lines of Arabic.
    """
    return " ".join(_bare(text).split())


def _bare(text: str) -> str:
    if text.isascii():
        return folded(text)
    return unicodedata.normalize("NFKC", _SHORT_VOWELS.sub("", folded(_UNSEEN.sub("", visible(text)))))


_bare_character = lru_cache(maxsize=10_000)(_bare)


def with_places(text: str) -> tuple[str, list[int]]:
    """A normalised text, and where each of its characters comes from: the beginning of one that a reader sees, and at
    last the text's end.
    """
    read: list[str] = []
    places: list[int] = []
    for found in _CLUSTER.finditer(text):
        part = _bare_character(found[0])
        if part.isspace():
            part = " " if read and read[-1] != " " else ""
        read += part
        places += [found.start()] * len(part)
    return "".join(read), [*places, len(text)]


def words_of(text: str) -> list[str]:
    """The words of a text as they are searched for: of two characters or more, without accents of Latin letters and
    short vowels of Arabic; in scripts without spaces single characters and pairs. None is left out: rare words weigh
    more than common ones anyway.
    """
    text = folded(text)
    if not text.isascii():
        text = _ACCENTS.sub(r"\1", unicodedata.normalize("NFD", text))
        text = unicodedata.normalize("NFC", _SHORT_VOWELS.sub("", text))
    if text.isascii():
        return list(_ASCII_WORD.findall(text))
    found: list[str] = []
    for run in _RUN.finditer(text):
        if run["dense"] is None:
            found.append(run[0])
            continue
        characters = _CLUSTER.findall(run[0])
        found += characters
        found += map("".join, pairwise(characters))
    return found


def single_words(text: str) -> list[str]:
    """The words of a folded text without punctuation; in scripts without spaces its characters."""
    text = "".join(sign for sign in folded(text) if not _is_punctuation(sign))
    return [part for run in _PART.finditer(text) for part in (_CLUSTER.findall(run[0]) if run["dense"] else [run[0]])]


def _is_punctuation(sign: str) -> bool:
    return sign in string.punctuation or unicodedata.category(sign) == "Cf" or unicodedata.category(sign)[0] == "P"


def parts_of(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where the parts of a text are: from, to, and whether it is a dense one. Others stand between spaces."""
    for run in _PART.finditer(text):
        yield *run.span(), run["dense"] is not None


def clusters(text: str) -> list[str]:
    """The characters that a reader sees, marks and joined emoji with what they belong to."""
    return list(_CLUSTER.findall(text))


def weight(text: str) -> int:
    """How long a text is, in letters of an alphabet: a character of a dense script says as much as several."""
    return len(text) + _MORE * sum(len(run[0]) for run in _RUN.finditer(text) if run["dense"])


def beginning(text: str, words: int) -> str:
    """The first words of a text, where two characters of a dense script count for one."""
    left, end = words * _PER_WORD, 0
    for start, stop, dense in parts_of(text):
        size = len(clusters(text[start:stop])) if dense else _PER_WORD
        if size > left:
            return text[: start + len("".join(clusters(text[start:stop])[:left]))].rstrip() if dense else text[:end]
        left, end = left - size, stop
    return text.rstrip()
