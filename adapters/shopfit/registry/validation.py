"""Validates arguments of the registry's public methods before anything touches a database."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from shopfit.adapter.bundle import Bundle
from shopfit.errors import RegistryError, UnknownMerchant, UnknownReference
from shopfit.recipe.names import SLUG_RULE, is_slug
from shopfit.recipe.suggestions import did_you_mean
from shopfit.registry.grant import SCOPES, Scope
from shopfit.registry.reference import Reference
from shopfit.registry.serving import RELEASE_KINDS, UNLIMITED, Limits, ReleaseKind
from shopfit.registry.version import Version

_LONGEST_NAME, _LONGEST_TEXT = 200, 10_000  # characters
_LONGEST_PATH = 4095  # bytes: the longest path that systems open
_LONGEST_TIME = timedelta(days=36_500)
_LARGEST_LIMIT = 10**15  # sums of it fit into 64 bits
T = TypeVar("T")


def reference(value: Any) -> Reference:
    """Check a reference, or parse the text of one.

    Raises:
        UnknownReference: if it is neither.
    """
    return value if isinstance(value, Reference) else Reference.parse(value)


def merchant(value: Any, what: str = "merchant") -> str:
    """Check the name of a merchant, or of a recipe.

    Raises:
        UnknownReference: if it cannot be one.
    """
    if not isinstance(value, str) or not is_slug(value):
        raise (UnknownMerchant if what == "merchant" else UnknownReference)(
            f"{_shown(value)} is not the name of a {what} (allowed: {SLUG_RULE})",
            next_step="run `shopfit registry ls` to see the names there are",
        )
    return value


def alias(adapter: Reference, value: Any) -> str:
    """Check an alias for versions of an adapter.

    Raises:
        UnknownReference: if it cannot be one.
    """
    if not isinstance(value, str):
        raise UnknownReference(
            f"{_shown(value)} is not an alias (allowed: 1-32 of a-z and '-', starting with a letter)",
            next_step="give another alias",
        )
    return Reference(adapter.merchant, adapter.recipe, alias=value).alias or value


def actor(value: Any) -> str:
    """Check the name of who changes something, for the audit.

    Raises:
        RegistryError: if it cannot be stored.
    """
    return _text("actor", value, _LONGEST_NAME, lines=False)


def reason(value: Any) -> str:
    """Check the reason why the gate refused a version. Raises as `actor` does."""
    return _text("refused", value, _LONGEST_TEXT, lines=True)


def flag(name: str, value: Any) -> bool:
    """Check a bool; other truthy or falsy values are refused. Raises as `actor` does."""
    return _of_type(name, value, bool, "True or False")


def bundle(value: Any) -> Bundle:
    """Check that a value is a bundle on disk. Raises as `actor` does."""
    return _of_type("bundle", value, Bundle, "a Bundle, such as Bundle.open gives")


def version(value: Any) -> Version:
    """Check that a value is a version, as `resolve` returns it. Raises as `actor` does."""
    return _of_type("version", value, Version, "what Registry.resolve or Registry.versions told")


def folder(value: Any) -> Path:
    """Check a folder's path. Raises as `actor` does."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    try:
        name = os.fsencode(text) if isinstance(text, str) else b""
    except UnicodeEncodeError:
        name = b""
    if not 0 < len(name) <= _LONGEST_PATH or b"\0" in name:
        raise _refused("cache", value, "the path of a folder")
    return Path(os.fsdecode(name))


def grace(value: Any) -> timedelta:
    """Check the least age of garbage, clipped to the range of dates. Raises as `actor` does."""
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise _refused("grace", value, "a timedelta of 0 or more")
    return min(value, _LONGEST_TIME)


def patience(value: Any) -> float:
    """Check seconds to wait, clipped to what databases allow. Raises as `actor` does."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise _refused("patience", value, "seconds, 0 or more")
    return float(min(value, _LONGEST_TIME.days))


def label(value: Any) -> str:
    """Check a key's name for humans; it may be empty. Raises as `actor` does."""
    return value if isinstance(value, str) and not value else _text("name", value, _LONGEST_NAME, lines=False)


def scopes(value: Any) -> tuple[Scope, ...]:
    """Check what a key is to be allowed; each once, in the order of `SCOPES`. Raises as `actor` does."""
    wanted = list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
    allowed = ", ".join(SCOPES)
    for one in wanted:
        if one not in SCOPES:
            hint = did_you_mean(one, SCOPES) if isinstance(one, str) else ""
            raise RegistryError(
                f"a scope is {_shown(one)}{hint} (allowed: {allowed})", next_step="give the scopes that the key needs"
            )
    if not wanted:
        raise RegistryError(f"a key has no scopes (allowed: {allowed})", next_step="give one or more")
    return tuple(scope for scope in SCOPES if scope in wanted)


def expiry(value: Any) -> datetime | None:
    """Check when a key is to end, and count a duration from now. Raises as `actor` does."""
    if value is None:
        return None
    now = datetime.now(UTC)
    allowed = "a time to come, with its zone, or a positive duration; at most 100 years from now"
    if isinstance(value, timedelta):
        ends = now + min(value, 2 * _LONGEST_TIME) if value > timedelta(0) else now
    elif isinstance(value, datetime) and value.utcoffset() is not None:
        ends = value
    else:
        raise _refused("expires", value, allowed)
    if not now < ends <= now + _LONGEST_TIME:
        raise _refused("expires", value if isinstance(value, timedelta) else ends.isoformat(), allowed)
    return ends.astimezone(UTC)


def release_kind(value: Any) -> ReleaseKind:
    """Check the kind of a release. Raises as `actor` does."""
    if value not in RELEASE_KINDS:
        raise _refused("kind", value, " or ".join(RELEASE_KINDS))
    return value  # type: ignore[no-any-return]


def share(value: Any) -> float:
    """Check a release's part of the traffic. Raises as `actor` does."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _refused("share", value, "above 0, at most 1")
    return float(value)


def limits(value: Any) -> Limits:
    """Check a merchant's limits. Raises as `actor` does."""
    given = _of_type("limits", value, Limits, "Limits(requests_per_minute=600, concurrent=20, tokens_per_day=10**6)")
    for field in fields(given):
        one = getattr(given, field.name)
        if one not in (None, UNLIMITED) and (type(one) is not int or not 0 <= one <= _LARGEST_LIMIT):
            allowed = f"a whole number, 0 to {_LARGEST_LIMIT}, UNLIMITED, or None for what gateways' options say"
            raise _refused(field.name, one, allowed)
    return given


def day(value: Any) -> date:
    """Check a day. Raises as `actor` does."""
    if isinstance(value, datetime) or not isinstance(value, date):
        raise _refused("day", value, "a date")
    return value


def token_counts(value: Any) -> dict[str, int]:
    """Check counts of tokens by merchant.

    Raises:
        UnknownReference: if a name cannot be a merchant's.
        RegistryError: if a count is none.
    """
    if not isinstance(value, Mapping):
        raise _refused("tokens", value, "a count by merchant")
    for name, count in value.items():
        merchant(name)
        if type(count) is not int or not 0 <= count <= _LARGEST_LIMIT:
            raise _refused(f"tokens of {name}", count, f"a whole number, 0 to {_LARGEST_LIMIT}")
    return dict(value)


def rows(name: str, value: Any) -> Sequence[Any]:
    """Check that a value is a list of rows; each row is checked elsewhere. Raises as `actor` does."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _refused(name, value, "a list of mappings")
    return value


def moment(name: str, value: Any) -> datetime | None:
    """Check a time, if there is one. Raises as `actor` does."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise _refused(name, value, "a time with its zone")
    return value


def number(name: str, value: Any, least: float, most: float) -> float:
    """Check a number of a range. Raises as `actor` does."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _refused(name, value, f"{least} to {most}")
    return value


def _text(name: str, value: Any, longest: int, *, lines: bool) -> str:
    if not isinstance(value, str) or not _is_plain(value, longest, lines=lines):
        raise _refused(name, value, f"1-{longest} characters, none of them a control character")
    return value


def _is_plain(text: str, longest: int, *, lines: bool = False) -> bool:
    """Whether any database can store it and a terminal show it: no NUL, lone surrogates or escape codes."""
    breaks = "\n\t" if lines else ""
    return 0 < len(text) <= longest and not any(
        unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} for one in text if one not in breaks
    )


def _of_type(name: str, value: Any, kind: type[T], allowed: str) -> T:
    if not isinstance(value, kind):
        raise _refused(name, value, allowed)
    return value


def _refused(name: str, value: Any, allowed: str) -> RegistryError:
    return RegistryError(f"{name} is {_shown(value)} (allowed: {allowed})", next_step=f"give another {name}")


def _shown(value: Any) -> str:
    """A value in a message: escaped, and cut."""
    if isinstance(value, str):
        return ascii(value[:80]) + ("…" if len(value) > 80 else "") if not value.isprintable() else repr(value[:80])
    try:
        return repr(value)[:80]
    except Exception:  # an object whose `repr` fails, or an integer too long to print
        return f"a {type(value).__name__}"
