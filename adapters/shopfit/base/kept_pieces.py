"""Which pieces of a vocabulary stay: those of texts, the letters of languages, and what their words use most."""

import functools
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from shopfit.base.encode import PlainTokenizer
from shopfit.base.written_words import both_scripts, simplified, spellings, title, upper, words_of

_SIGNS = ((0x20, 0x7F), (0xA0, 0xFF), (0x2000, 0x206F), (0x20A0, 0x20BF), (0x3000, 0x303F), (0xFF00, 0xFF65))
_BEHIND = "a1茶"  # what may stand behind a prompt, of which the last piece may depend
_STARTS = ("", "▁", "##")  # what a piece begins with, at the start of a word and inside
_MANY = {"CJK", "HANGUL"}  # scripts of thousands of characters, of which those of the words are kept
_OF_A_SCRIPT = 0.02  # share of a language's characters from which on it is written in a script

_Read = Callable[[str], Iterable[int]]


def kept_pieces(
    document: Mapping[str, Any],
    tokenizer: Any,
    pieces: Mapping[str, int],
    prompts: Sequence[str],
    languages: Sequence[str],
    corpus: Sequence[str],
    most: int,
) -> set[int]:
    """Numbers of the pieces that stay: control tokens, signs and pieces of texts first, then letters, then pieces of
    words.

    Args:
        document: content of tokenizer.json.
        tokenizer: made of it.
        pieces: the vocabulary, with the number of each.
        prompts: that the base reads before texts; may be empty.
        languages: tags of BCP 47.
        corpus: texts whose pieces all stay.
        most: pieces that stay; control tokens, signs and those of texts do, even if they are more.

    Raises:
        ShopfitError: if there is no list of words of a language.
    """
    read = functools.partial(PlainTokenizer.of(tokenizer).encode, special=False)
    kept = {token["id"] for token in document["added_tokens"]}
    kept |= {place for piece, place in pieces.items() if _is_sign(piece)}
    if isinstance(document["model"].get("unk_id"), int):
        kept.add(document["model"]["unk_id"])
    for text in (*corpus, *(prompt + letter for prompt in prompts if prompt for letter in ("", *_BEHIND))):
        kept.update(read(text))
    shares, letters = _used(read, pieces, languages)
    ordered = [
        *(place for letter in sorted(letters, key=lambda one: -letters[one]) for place in _alone(letter, read, pieces)),
        *sorted(shares, key=lambda one: -shares[one]),
    ]
    for place in ordered:
        if len(kept) >= most:
            break
        kept.add(place)
    return kept


def _is_sign(piece: str) -> bool:
    """Whether a piece is one sign or letter that texts in any language have."""
    bare = _bare(piece)
    return not bare or (len(bare) == 1 and any(first <= ord(bare) <= last for first, last in _SIGNS))


def _bare(piece: str) -> str:
    return piece.removeprefix("▁").removeprefix("##")


def _alone(letter: str, read: _Read, pieces: Mapping[str, int]) -> list[int]:
    """Pieces that text breaks into at a letter where a longer piece is gone."""
    return [*(pieces[start + letter] for start in _STARTS if start + letter in pieces), *read(letter)]


def _used(
    read: _Read, pieces: Mapping[str, int], languages: Sequence[str]
) -> tuple[Mapping[int, float], Mapping[str, float]]:
    """How much languages use each piece and each letter."""
    shares, letters = defaultdict[int, float](float), defaultdict[str, float](float)
    for tag in languages:
        found = defaultdict[str, float](float)
        for word, share in words_of(tag).items():
            for form in {each for spelling in spellings(word, tag) for each in (spelling, title(spelling, tag))}:
                for place in read(form):
                    shares[place] += share
                for letter in form:
                    found[letter] += share
        for letter, share in (found | _others_of_script(pieces, found)).items():
            for form in {letter, upper(letter, tag), letter.lower()}:
                letters[form] += share
    if any(map(both_scripts, languages)):
        _add_traditional(read, pieces, shares, letters)
    return shares, letters


def _others_of_script(pieces: Iterable[str], found: Mapping[str, float]) -> dict[str, float]:
    """The other letters of the scripts that words are in, which count nothing: the words are folded."""
    shares = defaultdict[str, float](float)
    for letter, share in found.items():
        shares[_script(letter)] += share
    least = _OF_A_SCRIPT * sum(shares.values())
    scripts = {script for script, share in shares.items() if share >= least} - _MANY
    return {
        each: 0.0
        for each in sorted(set(map(_bare, pieces)) - found.keys())
        if len(each) == 1 and _script(each) in scripts
    }


def _script(letter: str) -> str:
    """The script of a letter or mark, which its name begins with; of any other sign, the sign."""
    return unicodedata.name(letter, letter).split()[0] if unicodedata.category(letter)[0] in "LM" else letter


def _add_traditional(
    read: _Read, pieces: Mapping[str, int], shares: defaultdict[int, float], letters: defaultdict[str, float]
) -> None:
    """What is in traditional Chinese counts as much as the same in simplified Chinese."""
    known, simple = simplified(), dict(letters)
    for piece, place in pieces.items():
        bare = _bare(piece)
        if bare == (same := bare.translate(known)):
            continue
        if len(bare) == 1:
            letters[bare] += simple.get(same, 0.0)
        else:
            twin = pieces.get(piece.translate(known))
            parts = read(same) if twin is None else (twin,)
            shares[place] += min((shares.get(each, 0.0) for each in parts), default=0.0)
