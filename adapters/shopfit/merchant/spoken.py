"""The languages that a merchant's rows are in, beside the one that merchant.yaml says: told, never refused."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

from shopfit.merchant.text import weight
from shopfit.recipe.languages import language_of

logger = logging.getLogger(__name__)

_LOOKED_AT = 200  # rows
_LEAST = 40  # letters, as `weight` counts, by which a row's language can be told
_MOST = 400  # characters of a row that are looked at
_ENOUGH = 5  # such rows
_MAIN, _MIXED = 0.6, 0.2  # shares of rows from which on a language is the main one, and one of several


def spoken(texts: Iterable[str]) -> Mapping[str, float]:
    """The share of each language among the rows that are long enough to tell; empty where too few are.

    Args:
        texts: of the rows; the first 200 that are long enough are looked at.
    """
    long = list(islice((text[:_MOST] for text in texts if weight(text[:_MOST]) >= _LEAST), _LOOKED_AT))
    if len(long) < _ENOUGH:
        return {}
    import py3langid

    try:
        counts = Counter(language_of(py3langid.classify(text)[0]) for text in long)
    except OSError as error:  # its model is unpacked into a temporary file: a full disk is no reason to train nothing
        logger.warning("the language of rows was not looked at: %s", error)
        return {}
    return {language: count / len(long) for language, count in counts.most_common()}


def language_note(texts: Iterable[str], tag: str) -> str:
    """What to say of rows that are in another language than a merchant's, or in several; empty if there is nothing.

    Args:
        texts: of the rows.
        tag: of the merchant's language, in BCP 47.
    """
    shares = spoken(texts)
    if not shares:
        return ""
    mine, (main, share) = language_of(tag), next(iter(shares.items()))
    told = ", ".join(f"{language} {part:.0%}" for language, part in shares.items() if part >= _MIXED / 2)
    if main != mine and share >= _MAIN:
        return f"rows look like {told}, and merchant.yaml says {tag}: correct `language` there if they are right"
    if sum(part >= _MIXED for part in shares.values()) > 1:
        return f"rows are in several languages: {told}; merchant.yaml says {tag}"
    return ""
