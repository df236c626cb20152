"""How values are written in pages: numbers, sizes, times, and which way a text runs."""

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context

NONE = "\N{EN DASH}"
"""Where there is no number."""

_UNITS = ((365 * 86400, "y"), (30 * 86400, "mo"), (86400, "d"), (3600, "h"), (60, "min"))
_CHINESE = {"y": "年", "mo": "个月", "d": "天", "h": "小时", "min": "分钟", "s": "秒"}
_RIGHT = {"R", "AL"}


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash if there is none."""
    if value is None or math.isnan(value):
        return NONE
    return f"{value:,.{digits}f}"


def size(count: float) -> str:
    """Bytes, as people read them."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:,.1f} {unit}"
    return f"{count:,.0f} B"


def ago(moment: datetime, now: datetime | None = None, language: str = "en") -> str:
    """How long ago, in the largest unit that fits, such as `3 d`."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    for length, unit in _UNITS:
        if seconds >= length:
            return _time(int(seconds // length), unit, language)
    return _time(int(seconds), "s", language)


def duration(seconds: float | None, language: str = "en") -> str:
    """Seconds, as `3 min 5 s`; a dash if nobody knows."""
    if seconds is None or math.isnan(seconds):
        return NONE
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min")] if hours else [(minutes, "min"), (rest, "s")] if minutes else [(rest, "s")]
    return " ".join(_time(count, unit, language) for count, unit in parts)


def _time(count: int, unit: str, language: str) -> str:
    return f"{count} {_CHINESE[unit] if language == 'zh' else unit}"


def moment(value: datetime) -> str:
    """A time to the second, in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def direction(text: Any) -> str:
    """`rtl` or `ltr`, by the first letter of a text that says so."""
    for character in str(text)[:1000]:
        kind = unicodedata.bidirectional(character)
        if kind == "L":
            return "ltr"
        if kind in _RIGHT:
            return "rtl"
    return "ltr"


def percent(value: float | None, digits: int = 0) -> str:
    """A share of 1 as a percentage."""
    return NONE if value is None or math.isnan(value) else f"{value:.{digits}%}"


def told_aliases(aliases: Iterable[str]) -> list[str]:
    """Aliases that tell something: @candidate says nothing of a version that is in production."""
    named = list(aliases)
    return [alias for alias in named if alias != "candidate" or "production" not in named]


@pass_context
def _ago_told(context: Context, value: datetime) -> str:
    return ago(value, language=context["language"])


@pass_context
def _duration_told(context: Context, value: float | None) -> str:
    return duration(value, context["language"])


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "size": size,
    "ago": _ago_told,
    "duration": _duration_told,
    "moment": moment,
    "direction": direction,
    "percent": percent,
    "told_aliases": told_aliases,
}
"""By the names that templates call them by."""
