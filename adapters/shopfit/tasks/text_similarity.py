"""How close one generated answer is to the right one. Both are texts; what is a JSON object is compared as one."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from shopfit.merchant.text import single_words

Pair = tuple[tuple[str, ...], str]
Counts = tuple[int, int, int]

_ARTICLES = frozenset({"a", "an", "the"})


def as_text(answer: Any) -> str:
    """An answer as the text a model would write: JSON for an object."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def parse_object(text: str) -> Mapping[str, Any] | None:
    """The JSON object (RFC 8259) that `text` is, white space around it aside; else None."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def field_counts(output: str, gold: str) -> Counts:
    """(right, too many, missing) fields of an output.

    An object is a set of (field, value) pairs: one for a scalar, one for each element of a list, those of the inner
    object for an object. So a wrong scalar counts as one too many and one missing. Values are equal as JSON.

    Args:
        output: an answer; what is no object has no fields.
        gold: the right answer; where that is no object there is nothing to compare.
    """
    right = parse_object(gold)
    if right is None:
        return 0, 0, 0
    found, wanted = set(_pairs(parse_object(output) or {})), set(_pairs(right))
    return len(found & wanted), len(found - wanted), len(wanted - found)


def is_exact(output: str, gold: str) -> bool:
    """Whether an output is the right answer: equal as JSON objects, or as texts after SQuAD's normalisation."""
    right = parse_object(gold)
    if right is None:
        return _words(output) == _words(gold)
    found = parse_object(output)
    return found is not None and _canonical(found) == _canonical(right)


def token_f1(output: str, gold: str) -> float:
    """F1 over the words of an output, in [0, 1]: SQuAD's (Rajpurkar et al. 2016, arXiv:1606.05250), of scripts without
    spaces over characters (CMRC 2018, arXiv:1810.07366).
    """
    found, wanted = _words(output), _words(gold)
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted))


def _words(text: str) -> list[str]:
    parsed = parse_object(text)
    if parsed is not None:
        text = json.dumps(parsed, ensure_ascii=False)  # one spacing and one spelling of every character
    return [word for word in single_words(text) if word not in _ARTICLES]


def _pairs(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Pair]:
    for name, part in value.items():
        here = (*path, name)
        if isinstance(part, Mapping) and part:
            yield from _pairs(part, here)
        elif isinstance(part, list) and part:
            yield from ((here, _canonical(element)) for element in part)
        else:
            yield here, _canonical(part)


def _canonical(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value  # JSON has one kind of number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
