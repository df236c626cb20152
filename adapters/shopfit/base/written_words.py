"""The words of languages, in the spellings that shops write.

The lists of the package `wordfreq` hold keys to look words up by: in lower case and folded, so that a final sigma, a
sharp s, traditional Chinese and Serbian in Cyrillic are in none of them.
"""

import gzip
from collections.abc import Mapping
from functools import cache

from shopfit.errors import ShopfitError
from shopfit.recipe.languages import language_of

_RARE = 1e-7  # share of a language's words below which a word is not looked at
_LISTS = {"no": "nb", "tl": "fil", "hr": "sh", "bs": "sh", "sr": "sh"}  # as languages' lists are called
_SIGMA, _DOTLESS = "\N{GREEK SMALL LETTER SIGMA}", "\N{LATIN SMALL LETTER DOTLESS I}"
_DOTTED = str.maketrans({"i": "İ", _DOTLESS: "I"})
_CYRILLIC = str.maketrans(dict(zip("abvgdđežzijklmnoprstćufhcčšљњџ", "абвгдђежзијклмнопрстћуфхцчшљњџ", strict=True)))
_PAIRS = {"dž": "џ", "lj": "љ", "nj": "њ"}


@cache
def words_of(tag: str) -> Mapping[str, float]:
    """The words of a language, folded, and the share of each; the most frequent first.

    Args:
        tag: of BCP 47.

    Raises:
        ShopfitError: if `wordfreq` is not installed, or has no list of that language.
    """
    try:
        import wordfreq
    except ImportError as error:
        raise ShopfitError(
            "which words a language has is known to the package wordfreq, which is not installed",
            next_step="pip install 'shopfit[shrink]', or give texts with --corpus",
        ) from error
    language, lists = language_of(tag), wordfreq.available_languages("best")
    name = _LISTS.get(language, language)
    if name not in lists:
        known = ", ".join(sorted({*lists, *(each for each in _LISTS if _LISTS[each] in lists)}))
        raise ShopfitError(
            f"there is no list of words of {tag} (allowed: {known})", next_step="give texts with --corpus instead"
        )
    found: Mapping[str, float] = wordfreq.get_frequency_dict(name, wordlist="best")
    return {word: found[word] for word in sorted(found, key=lambda word: -found[word]) if found[word] >= _RARE}


def spellings(word: str, tag: str) -> list[str]:
    """How a folded word is written in lower case; traditional Chinese apart, see `simplified`.

    Args:
        word: of `words_of`.
        tag: of the language; Serbian is written in Cyrillic, too, unless the tag says Latin.
    """
    match language_of(tag):
        case "el" if len(word) > 1 and word.endswith(_SIGMA):
            return [f"{word[:-1]}ς"]
        case "de" if "ss" in word:
            return [word, word.replace("ss", "ß")]
        case "sr" if _script(tag) != "Latn":
            return [word, _in_cyrillic(word)]
        case _:
            return [word]


def upper(text: str, tag: str) -> str:
    """A text in capitals, as the language has them: İ of i in Turkish."""
    return (text.translate(_DOTTED) if language_of(tag) in {"tr", "az"} else text).upper()


def title(word: str, tag: str) -> str:
    """A word with a capital first letter."""
    return upper(word[:1], tag) + word[1:]


def both_scripts(tag: str) -> bool:
    """Whether texts of a language may be in traditional Chinese: unless its tag says another script or region."""
    return language_of(tag) == "zh" and _script(tag) in {"", "Hant"}


@cache
def simplified() -> Mapping[int, str]:
    """Traditional characters, as `str.translate` takes them, and what simplified Chinese has in their place."""
    from importlib.resources import files

    import msgpack

    packed = (files("wordfreq") / "data" / "_chinese_mapping.msgpack.gz").read_bytes()
    found: Mapping[int, str] = msgpack.unpackb(gzip.decompress(packed), strict_map_key=False)
    return found


def _script(tag: str) -> str:
    """The script that a tag says, or that its region writes; empty if it says neither."""
    import langcodes

    said = langcodes.get(tag)
    return (said.maximize().script or "") if said.script or said.territory else ""


def _in_cyrillic(word: str) -> str:
    for pair, letter in _PAIRS.items():
        word = word.replace(pair, letter)
    return word.translate(_CYRILLIC)
