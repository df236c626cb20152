"""Which encoding of one byte a letter a text is in, by how usual the letters are that each would make of its bytes."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

_LATIN = """
éàèêçâîûôùëïœ üäöß óíáéñúü ãçáéíóêõâúàô èàòùéì ëéïöü äåöé åøæé íáðöéþóúýæ àèíóéçòúïü äõüöšž łąężóśćńź
íáěéřšžčýůúťňďó áíčéžýúšľťôňäóďŕĺ áéöóőíüúű ăîâşţ čšžćđ ëç ıüşçğöİâî ėšųįžąčęū āīēšūņļžģķč
"""  # letters of one language each, the most usual ones first: French, German, Spanish, Portuguese, Italian, ...
_CYRILLIC = """
оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё оаниівтерслкдумпьязгбчйхцжїшюєщфґ аиоентрсвлкдпмзгуябчжъщцйхшюфь
аиоенрјстуквмдлпзгбћшчцњжђљхфџѓќѕ анеіоырсткялдувмпзбцьэгчўшхжюёйф
"""
_OTHERS = "αοιετσνηυρπκμλςωάόίδγέχθφήβύξώζψ יוהלאתרבמשנדכעחקפסטגזצםןךףץ اليمونترةبعدسفهكحقجشطصخذزضثظغئءؤأإآى"
_SIGNS = frozenset("€£°®™©•·–—‘’“”„…«»½¼²§×¿¡ºªµ\xa0\xad")  # noqa: RUF001 - the usual ones
_IN_WORDS = frozenset("’‘·–\xad")  # noqa: RUF001
_SIGN, _RARE_SIGN, _FOREIGN, _WRONG = 0.05, 0.002, 0.001, 0.0001  # how usual these are, where a letter may be 0.5
_ALONE = 0.05  # and how usual a capital by itself is
_EQUAL = math.log(20)  # how much more usual the letters of one must be, for the other to be out of the question
_LESS_USUAL = math.log(1.5)  # an encoding than the one before it
_MAY_BE_WRONG = 0.1  # share of letters
_READ = ("cp1252", "cp1254", "cp1250", "iso-8859-15", "iso-8859-2")  # the most usual first
_NAMES = {"cp1252": "windows-1252", "cp1254": "windows-1254", "cp1250": "windows-1250"}
_NOT_READ = ("cp1257",)


class _Bytes(NamedTuple):
    """The bytes beyond ASCII of a text.

    Args:
        all: how often each is there.
        low: how often after a small letter.
        inner: how often between two letters.
        alone: how often between none.
    """

    all: Counter[bytes]
    low: Counter[bytes]
    inner: Counter[bytes]
    alone: Counter[bytes]

    @classmethod
    def of(cls, content: bytes) -> "_Bytes":
        return cls(
            Counter(re.findall(rb"[\x80-\xff]", content)),
            Counter(re.findall(rb"(?<=[a-z])[\x80-\xff]", content)),
            Counter(re.findall(rb"(?<=[A-Za-z\x80-\xff])[\x80-\xff](?=[A-Za-z\x80-\xff])", content)),
            Counter(re.findall(rb"(?<![A-Za-z\x80-\xff])[\x80-\xff](?![A-Za-z\x80-\xff])", content)),
        )


def latin(content: bytes) -> tuple[str, ...]:
    """The encodings that a text of Latin letters may be in, the likeliest first; of those that make the same letters of
    it one alone. Empty if none fits, or if it is in one that is not read.

    Args:
        content: with a byte beyond ASCII at least.
    """
    there = _Bytes.of(content)
    scores: dict[tuple[str, ...], tuple[float, str]] = {}
    for place, codec in enumerate((*_READ, *_NOT_READ)):
        letters = _letters(there, codec)
        if letters and letters not in scores:
            scores[letters] = _score(there, letters, _LATIN.split()) - place * _LESS_USUAL, codec
    ranked = sorted(scores.values(), key=lambda pair: -pair[0])
    if not ranked or ranked[0][0] == -math.inf or ranked[0][1] in _NOT_READ:
        return ()
    likely = [codec for score, codec in ranked if ranked[0][0] - score < _EQUAL and codec in _READ]
    return tuple(_NAMES.get(codec, codec) for codec in likely)


def among_ascii(content: bytes) -> bool:
    """Whether most words with bytes beyond ASCII have ASCII letters too, as those of Latin letters do."""
    words = [word for word in re.findall(rb"[A-Za-z\x80-\xff]+", content) if not word.isascii()]
    return sum(re.search(rb"[A-Za-z]", word) is not None for word in words) * 2 > len(words)


def is_cyrillic(content: bytes) -> bool:
    """Whether a text in letters of its own script is likelier to be Cyrillic than Greek, Hebrew or Arabic, of those
    encodings of Windows that look alike.
    """
    there = _Bytes.of(content)
    others = zip(("cp1253", "cp1255", "cp1256"), _OTHERS.split(), strict=True)
    read = _letters(there, "cp1251")
    mine = _score(there, read, _CYRILLIC.split()) if read else -math.inf
    rivals = [_score(there, found, [usual]) for codec, usual in others if (found := _letters(there, codec))]
    return mine > max(rivals, default=-math.inf)


def _letters(there: _Bytes, codec: str) -> tuple[str, ...]:
    """What a codec makes of each byte; empty if of some it makes none, or a control character."""
    try:
        letters = tuple(byte.decode(codec) for byte in there.all)
    except UnicodeDecodeError:
        return ()
    return letters if all(letter.isprintable() or letter in _SIGNS for letter in letters) else ()


def _score(there: _Bytes, letters: Sequence[str], languages: Sequence[str]) -> float:
    """How usual letters are in the language that they are most usual in, as a logarithm.

    A letter counts as often as it is there, a sign once: who writes one `£` writes more.
    """
    known = frozenset("".join(languages))
    signs, wrong, words = 0.0, 0, Counter[str]()
    for (byte, count), letter in zip(there.all.items(), letters, strict=True):
        small = letter if letter == "İ" else letter.lower()
        if letter in _SIGNS or not letter.isalpha():
            inside = there.inner[byte] * 2 >= count and letter not in _IN_WORDS
            wrong += count * inside
            signs += count * math.log(_WRONG) if inside else math.log(_SIGN if letter in _SIGNS else _RARE_SIGN)
        elif small not in known or (small != letter and there.low[byte] * 2 > count):
            wrong += count
            signs += count * math.log(_WRONG)
        else:
            words[small] += count
            signs += there.alone[byte] * math.log(_ALONE) * (small != letter)
    if wrong > _MAY_BE_WRONG * there.all.total():
        return -math.inf
    return signs + max(_in_language(words, usual) for usual in languages)


def _in_language(words: Counter[str], usual: str) -> float:
    whole = sum(1 / (place + 2) for place in range(len(usual)))
    shares = {letter: 1 / (place + 2) / whole for place, letter in enumerate(usual)}
    return sum(count * math.log(shares.get(letter, _FOREIGN)) for letter, count in words.items())
