"""Numbers as shops write them: `1.299,00 €`, `$1,299.00`, `1 299,00`, `CHF 1'299.-`.

`1.299` alone may be about 1.3 or about 1,300, so no value is read by itself: a column has one decimal mark,
settled from all its values, or named by the recipe.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shopfit.merchant.values import is_missing
from shopfit.recipe.currencies import common, currency_of, is_code
from shopfit.recipe.label_spelling import visible
from shopfit.recipe.schema import DecimalMark

_LONGEST = 60  # characters that a number with its currency may have
_NONE = {"nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "–", "—"}  # noqa: RUF001 - how tables write a gap
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ´`\u066c", "'") | {"−": "-", "\u060c": ","})  # noqa: RUF001 - as typed
_ARABIC_MARK = "\u066b"  # stands before decimals and nowhere else
_NO_CENTS = re.compile(r"([.,])\s*[-–—]+")  # noqa: RUF001 - no cents
_WHOLE = re.compile(r"\d+|(?!0)(?:\d{1,3}([ ',.])\d{3}(?:\1\d{3})*|\d{1,2}(?:,\d{2})+,\d{3})")
_NOTHING = re.compile(r"(?:[–—]|-{2,})$")  # noqa: RUF001 - stands for zero before the mark
_RAISED = re.compile(r"(?<=\d)·(\d\d)$")  # cents, as in `12⁹⁹`
_PLAIN = {"point": re.compile(r"\d*(\.\d+)?([eE][+-]?\d+)?"), "comma": re.compile(r"\d*(,\d+)?")}
_GROUPED = {
    "point": re.compile(r"(?!0)(\d{1,3}([ ',])\d{3}(\2\d{3})*|\d{1,2}(,\d{2})+,\d{3})(\.\d+)?"),
    "comma": re.compile(r"(?!0)\d{1,3}([ '.])\d{3}(\1\d{3})*(,\d+)?"),
}
_SIMPLE = re.compile(r"([0-9]{1,12})(?:([.,])[0-9]{1,2})?")
_SIGN_OF: dict[DecimalMark, str] = {"point": ".", "comma": ","}
DECIMAL_MARKS = tuple(_SIGN_OF)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number, and its currency where one stands beside it: an ISO 4217 code, or a sign that several share."""

    value: float
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How one column writes its numbers.

    Args:
        mark: what stands before the decimals.
        doubtful: a value that means another number with the other mark, where every value fits both; else empty.
        shown: a value that has this mark and could not have the other; empty where it makes no difference.
    """

    mark: DecimalMark
    doubtful: str = ""
    shown: str = ""

    def read(self, value: Any) -> Amount | None:
        """A value as a number; None if it is none in this format, or not finite."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                return None
            return Amount(number if isinstance(value, float) else value) if math.isfinite(number) else None
        if not isinstance(value, str):
            return None
        read = readings(value)
        return read.get(self.mark)

    @property
    def allowed(self) -> str:
        """What the column holds, for messages."""
        like = f", such as {self.shown!r} in the same column" if self.shown else ""
        return f"a number with a decimal {self.mark}{like}"


def no_number(value: Any) -> bool:
    """Whether a value of a column of numbers says that there is none: nothing, NaN, or a word for it."""
    return is_missing(value) or (isinstance(value, str) and value.strip().casefold() in _NONE)


def settle(values: Iterable[Any], decimal: DecimalMark = "auto") -> NumberFormat:
    """The format of a column, from all its values.

    Args:
        values: what the column holds; numbers and gaps say nothing of it.
        decimal: the mark that the recipe names, or auto.

    Returns:
        the format that fits every value; where none does, that of the most values, so that the others are mistakes.
    """
    if decimal != "auto":
        return NumberFormat(decimal)
    fits = dict.fromkeys(DECIMAL_MARKS, 0)
    only: dict[DecimalMark, str] = {}
    doubtful, read = "", 0
    for value in values:
        if not isinstance(value, str) or no_number(value) or not (found := readings(value)):
            continue
        read += 1
        for mark in found:
            fits[mark] += 1
        if len(found) == 1:
            only.setdefault(next(iter(found)), value)
        elif found["point"] != found["comma"] and not doubtful:
            doubtful = value
    if only or not doubtful:
        best: DecimalMark = "comma" if fits["comma"] > fits["point"] else "point"
        return NumberFormat(best, shown=only.get(best, ""))
    return NumberFormat("point", doubtful=doubtful)


@lru_cache(maxsize=50_000)
def readings(text: str) -> Mapping[DecimalMark, Amount]:
    """What a text may mean, by decimal mark; empty if it is no number."""
    if len(text) > _LONGEST:
        return {}
    if (simple := _SIMPLE.fullmatch(text)) is not None:  # the usual case, done first
        whole = simple[2] is None
        marks: tuple[DecimalMark, ...] = DECIMAL_MARKS if whole else ("point",) if simple[2] == "." else ("comma",)
        amount = Amount(float(text.replace(",", ".")))
        return dict.fromkeys(marks, amount)
    text = unicodedata.normalize("NFKC", _with_cents(visible(text).translate(_APOSTROPHES))).strip()
    places = [place for place, sign in enumerate(text) if sign.isdecimal()]
    if not places:
        return {}
    before, core, behind = text[: places[0]], text[places[0] : places[-1] + 1], text[places[-1] + 1 :]
    if before.endswith((".", ",")) and not _is_short(before):  # `.99`, `$.99`
        before, core = _NOTHING.sub("", before[:-1]), before[-1] + core
    elif before.endswith(".") and is_code(before[:-1].strip("+- ")):  # `EUR.75`: no one shortens that
        return {}
    ended = _NO_CENTS.match(behind)
    if ended:
        behind = behind[ended.end() :]
    before, minus = _signed(before.strip())
    currency = _currency(before, behind.strip())
    if currency is None:
        return {}
    core = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in core)
    numbers = _whole(core, ended[1]) if ended else _written(core)
    found: dict[DecimalMark, Amount] = {}
    for mark, number in numbers.items():
        if math.isfinite(number):
            found[mark] = Amount(-number if minus else number, currency or None)
    return found


def _whole(core: str, ended: str) -> dict[DecimalMark, float]:
    """A number that ends in a mark and a dash; `1.299.-` has one sign for both, and so fits either mark."""
    if _WHOLE.fullmatch(core) is None:
        return {}
    number = float("".join(sign for sign in core if sign.isdecimal()))
    return {mark: number for mark, sign in _SIGN_OF.items() if sign == ended or ended in core}


def _written(core: str) -> dict[DecimalMark, float]:
    numbers: dict[DecimalMark, float] = {}
    for mark, sign in _SIGN_OF.items():
        written = _RAISED.sub(rf"{sign}\1", core).replace(_ARABIC_MARK, sign)
        if not (_PLAIN[mark].fullmatch(written) or _GROUPED[mark].fullmatch(written)):
            continue
        plain = written.replace(" ", "").replace("'", "")
        numbers[mark] = float(plain.replace(",", "") if mark == "point" else plain.replace(".", "").replace(",", "."))
    return numbers


def _with_cents(text: str) -> str:
    """A text with a `·` before two raised digits; other signs that only look like a digit are no part of a number."""
    if text.isascii():
        return text
    high = [place for place, sign in enumerate(text) if not sign.isdecimal() and _is_like_a_digit(sign)]
    if not high:
        return text
    first = high[0]
    raised = all(unicodedata.decomposition(text[place]).startswith(("<super>", "<sub>")) for place in high)
    if not raised or high != [first, first + 1] or text[first + 2 : first + 3].isdecimal():
        return ""
    if text[:first].endswith((".", ",")):
        return text
    return f"{text[:first]}·{text[first:]}" if text[:first][-1:].isdecimal() else ""


def _is_like_a_digit(sign: str) -> bool:
    return any(part.isdecimal() for part in unicodedata.normalize("NFKC", sign))


def _is_short(before: str) -> bool:
    """Whether the dot before a number shortens the currency, as in `Rs.99`."""
    return before.endswith(".") and before[-2:-1].isalpha()


def _signed(before: str) -> tuple[str, bool]:
    """What stands before a number without its sign, and whether that is a minus."""
    for sign in "+-":
        if before.startswith(sign) or before.endswith(sign):
            return before.strip(f"{sign} "), sign == "-"
    return before, False


def _currency(before: str, behind: str) -> str | None:
    """The currency that stands beside a number; empty if none does, None if it is something else, or two of them."""
    named = [currency_of(text) for text in (before, behind) if text]
    if None in named:
        return None
    known = [name for name in named if name is not None]
    if len(known) == 2:
        return common(known[0], known[1])
    return known[0] if known else ""
