"""Times as tables write them: seconds or milliseconds since 1970, ISO 8601, RFC 2822, `31.12.2025`, `12/31/2025`.

`03/04/2025` may be March or April, so a column has one form, settled from all its values.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from shopfit.merchant.values import is_missing

ALLOWED = (
    "a time in ISO 8601, such as 2026-05-01T12:00:00Z, or one of the whole column: seconds or milliseconds since 1970, "
    "RFC 2822, 31.12.2026, 12/31/2026 or 31/12/2026, of the years 1900 to 2199"
)

_FIRST, _LAST = 1900, 2199  # years
_LONGEST = 60  # characters
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_EARLIEST, _LATEST = 1e8, 7.25e9  # seconds since 1970 of March 1973 and of 2199: so the units cannot be confused
_NUMBER = re.compile(r"\d{9,19}(\.\d{1,9})?")
_WRITTEN = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{2,4})(?:,?[ T]+(\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?))?")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p", "%I:%M:%S%p")

Read = Callable[[Any], str | None]


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How one column writes its times.

    Args:
        name: of the form.
        doubtful: a value that is another day in another form, where every value fits both; else empty.
    """

    name: str
    doubtful: str = ""

    def read(self, value: Any) -> str | None:
        """A value as ISO 8601; None if it is no time in this form, or of another century."""
        return _FORMS[self.name](value)


def settle_times(values: Iterable[Any]) -> TimeFormat:
    """The form of a column, from all its values: the one that fits the most of them."""
    fits = dict.fromkeys(_FORMS, 0)
    first: dict[str, Any] = {}
    other: dict[str, bool] = {}
    for value in values:
        if is_missing(value):
            continue
        found = {name: read for name, form in _FORMS.items() if (read := form(value)) is not None}
        for name, read in found.items():
            fits[name] += 1
            if any(read != another for another in found.values()):
                first.setdefault(name, value)
                other.setdefault(name, True)
    best = max(fits, key=lambda name: fits[name])
    twins = [name for name in fits if name != best and fits[name] == fits[best] and fits[best]]
    doubtful = first.get(best) if twins and other.get(best) else None
    return TimeFormat(best, "" if doubtful is None else str(doubtful))


def _iso(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 19000101 <= value <= 21991231:
        value = str(value)  # 20261231
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    text = value.strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return text if _within(time) else None


def _since_1970(unit: float) -> Read:
    def read(value: Any) -> str | None:
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value) if "." in value else int(value)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or (isinstance(value, float) and math.isnan(value))
        ):
            return None
        if not _EARLIEST * unit <= value <= _LATEST * unit:
            return None
        return (_EPOCH + timedelta(seconds=value / unit)).isoformat()

    return read


def _mail(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > _LONGEST or not any(sign.isalpha() for sign in value):
        return None
    try:
        time = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return time.isoformat() if _within(time) else None


def _written(day: int, month: int, year: int, signs: str) -> Read:
    """Reads a date whose parts lie at these places."""

    def read(value: Any) -> str | None:
        if not isinstance(value, str) or len(value) > _LONGEST:
            return None
        match = _WRITTEN.fullmatch(value.strip())
        if match is None or match[2] not in signs:
            return None
        parts = (match[1], match[3], match[4])
        if len(parts[year]) != 4 or len(parts[day]) > 2 or len(parts[month]) > 2:
            return None
        try:
            time = datetime(int(parts[year]), int(parts[month]), int(parts[day]))
        except ValueError:
            return None
        if not _within(time):
            return None
        if match[5] is None:
            return time.date().isoformat()
        clock = _clock(match[5])
        return None if clock is None else datetime.combine(time, clock.time()).isoformat()

    return read


def _clock(text: str) -> datetime | None:
    for form in _CLOCKS:
        try:
            return datetime.strptime(text.upper(), form)
        except ValueError:
            continue
    return None


def _within(time: datetime) -> bool:
    return _FIRST <= time.year <= _LAST


_FORMS: dict[str, Read] = {
    "ISO 8601": _iso,
    **{f"{name} since 1970": _since_1970(unit) for name, unit in _UNITS.items()},
    "RFC 2822": _mail,
    "day.month.year": _written(0, 1, 2, "."),
    "month/day/year": _written(1, 0, 2, "/-"),
    "day/month/year": _written(0, 1, 2, "/-"),
    "year/month/day": _written(2, 1, 0, "/."),
}
