"""API keys as values: the token that a client holds, the key as it is listed, and what it may do. No database code.

A token is `sf_<id>_<secret>`: a public id of 12 characters, and 256 random bits in base62. Both parts are letters and
digits, so that a double click selects all of it.
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple, get_args

from shopfit.errors import KeyRefused, RegistryError

Scope = Literal["infer", "feedback", "publish", "promote", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_LOWER = string.digits + string.ascii_lowercase
_BASE62 = _LOWER + string.ascii_uppercase
_ID_LENGTH, _SECRET_LENGTH = 12, 43  # 62 ** 43 is just above 2 ** 256
_ID = rf"[0-9a-z]{{{_ID_LENGTH}}}"
_TOKEN = re.compile(rf"sf_({_ID})_[0-9A-Za-z]{{{_SECRET_LENGTH}}}", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,6})([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is listed; neither the token nor its hash is in it.

    Args:
        id: public; 12 of a-z and 0-9.
        merchant: whose it is; None for the platform's.
        scopes: what it may do, in the order of `SCOPES`.
        name: for humans; empty if it has none.
        created: when it was made, with time zone.
        expires: from when on it is refused, with time zone; None for never.
        revoked: when it was revoked, with time zone; None if it was not.
        actor: who made it.
    """

    id: str
    merchant: str | None
    scopes: tuple[Scope, ...]
    name: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    actor: str

    @property
    def state(self) -> Literal["active", "expired", "revoked"]:
        """Whether it is accepted now, and if not, why."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if has_passed(self.expires) else "active"


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key, and the only copy of its token.

    Args:
        key: as it is listed.
        token: what the client sends; left out where this is printed.
    """

    key: Key
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a valid key may do.

    Args:
        key: the key's id.
        merchant: whose key it is; None for the platform's.
        scopes: what it may do.
        expires: from when on it is refused, with time zone; None for never.
    """

    key: str
    merchant: str | None
    scopes: frozenset[Scope]
    expires: datetime | None

    def allows(self, scope: Scope, merchant: str | None) -> bool:
        """Whether the key may do something.

        The scope `admin` includes the others. A merchant's key reaches that merchant only, whatever its scopes; whether
        another one exists makes no difference, as nothing is looked up.

        Args:
            scope: what is to be done.
            merchant: with whose data; None if it is about the platform as a whole.
        """
        reaches = self.merchant is None or self.merchant == merchant
        return reaches and scope in SCOPES and not self.scopes.isdisjoint({scope, "admin"})


class Proof(NamedTuple):
    """What a presented token says: which key it is, and the SHA-256 to compare with that key's."""

    key: str
    sha256: str


def new_token() -> str:
    """A token of a new key; `secrets` is the system's generator."""
    key = "".join(secrets.choice(_LOWER) for _ in range(_ID_LENGTH))
    number, secret = secrets.randbits(256), ""
    for _ in range(_SECRET_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        secret += _BASE62[digit]
    return f"sf_{key}_{secret}"


def read_token(token: object) -> Proof:
    """What `token` says.

    Raises:
        KeyRefused: if it cannot be a key's.
    """
    match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
    if match is None:
        raise KeyRefused("malformed")
    return Proof(match[1], hashlib.sha256(match[0].encode("ascii")).hexdigest())


def read_id(value: object) -> str:
    """A key's id, given as it is or by its whole token, as when that was found somewhere; no message repeats the value.

    Raises:
        RegistryError: if it is neither.
    """
    text = value if isinstance(value, str) else ""
    if match := _TOKEN.fullmatch(text):
        return match[1]
    if not re.fullmatch(_ID, text, re.ASCII):
        raise RegistryError(
            f"this is not the id of a key (allowed: {_ID_LENGTH} of a-z and 0-9, or the whole key)",
            next_step="run `shopfit key ls` to see the ids there are",
        )
    return text


def read_expiry(text: str) -> datetime | timedelta:
    """A time of expiry as users write it.

    Args:
        text: a duration such as `12h`, `90d` or `6w`; or a day or time in ISO 8601, in UTC if it names no zone. A day
            is its first moment.

    Raises:
        RegistryError: if it is neither.
    """
    if match := _DURATION.fullmatch(text):
        return int(match[1]) * _UNITS[match[2]]
    try:
        if len(text) <= len("2027-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RegistryError(
            f"{text[:80]!a} is not a time of expiry (allowed: a duration such as 12h, 90d or 6w; a day or time in UTC "
            "such as 2027-01-31 or 2027-01-31T18:00)",
            next_step="correct the time of expiry, or leave it out for a key that stays until it is revoked",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def has_passed(expires: datetime | None) -> bool:
    """Whether a time of expiry is reached."""
    return expires is not None and expires <= datetime.now(UTC)
