"""Checks what is told of answers, all of it at once, before anything touches a database."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from shopfit.errors import DataError, Problem, UnknownReference
from shopfit.recipe.names import SLUG_RULE, is_slug
from shopfit.recipe.suggestions import shown
from shopfit.registry.reference import Reference
from shopfit.registry.serving import FEEDBACK_KINDS, Feedback

LARGEST_VALUE = 10 * 1024  # bytes of JSON
_DEEPEST = 32  # lists and objects in one another
_LONGEST = {"item": 2000, "user_hash": 128, "event": 200}  # characters
_ANSWER = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_MOST = 100  # problems that are listed


def check(rows: list[Any]) -> list[Feedback]:
    """Check rows of feedback.

    Raises:
        DataError: with every bad row.
    """
    problems: list[Problem] = []
    for number, row in enumerate(rows, 1):
        problems += _problems(f"feedback:{number}", row)
        if len(problems) > _MOST:
            break
    if problems:
        raise DataError("the feedback has bad rows", problems=problems, next_step="correct the rows named above")
    return rows


def _problems(where: str, row: Any) -> list[Problem]:
    """What is wrong with a row."""
    if not isinstance(row, Feedback):
        return [Problem(where, f"{shown(row)} is no feedback", "Feedback(merchant, answer_id, kind, at, …)")]
    latest = datetime.now(UTC) + timedelta(days=1)
    zoned = isinstance(row.at, datetime) and row.at.utcoffset() is not None
    answer = isinstance(row.answer_id, str) and _ANSWER.fullmatch(row.answer_id)
    checks = [
        ("merchant", isinstance(row.merchant, str) and is_slug(row.merchant), SLUG_RULE),
        ("answer_id", answer, "1-64 of a-z, A-Z, 0-9, '_' and '-'"),
        ("kind", row.kind in FEEDBACK_KINDS, ", ".join(FEEDBACK_KINDS)),
        ("at", zoned and _EARLIEST <= row.at <= latest, "a time with its zone, from 2000 to now"),
        ("version", row.version is None or _is_version(row), "a version of the merchant's, such as acme/reviews@7"),
        *(
            (name, getattr(row, name) is None or _is_text(getattr(row, name), most), f"1-{most:,} printable characters")
            for name, most in _LONGEST.items()
        ),
    ]
    found = [
        Problem(f"{where} {name}", f"{shown(getattr(row, name))} is not accepted", allowed)
        for name, good, allowed in checks
        if not good
    ]
    if why := _value_problem(row.value):
        found.append(Problem(f"{where} value", why, f"what JSON can hold, at most {LARGEST_VALUE:,} bytes"))
    return found


def _is_version(row: Feedback) -> bool:
    try:
        reference = Reference.parse(row.version or "")
    except UnknownReference:
        return False
    return reference.number is not None and reference.merchant == row.merchant


def _is_text(value: Any, longest: int) -> bool:
    """Whether any database can store it and a terminal show it."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and not any(unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} for one in value)
    )


def _value_problem(value: Any) -> str:
    """Why a value cannot be kept; empty if it can."""
    try:
        text = json.dumps(value, allow_nan=False)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    except (TypeError, ValueError, RecursionError):
        return f"{shown(value)} cannot be written as JSON"
    if len(text) > LARGEST_VALUE:
        return f"has {len(text):,} bytes"
    return "" if _depth(value) <= _DEEPEST else "is nested too deep"


def _depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return 1 + max(map(_depth, parts), default=0)
