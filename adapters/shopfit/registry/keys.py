"""API keys in the registry: making, revoking, listing and checking them. The values are in `grant`.

Only the SHA-256 of a token is kept: 256 random bits cannot be guessed, so a slow hash would add cost and no safety. A
key is looked up by the public id in its token, and the hashes are compared in constant time. So no database index, and
no statement or log of one, ever depends on the secret, and the id can be shown wherever a key has to be named.
"""

import hmac
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, insert, select, update

from shopfit.errors import KeyRefused, RegistryError, UnknownReference
from shopfit.recipe.names import HOUSE
from shopfit.recipe.suggestions import did_you_mean
from shopfit.registry import queries, validation
from shopfit.registry.database import Database
from shopfit.registry.grant import SCOPES, Grant, IssuedKey, Key, has_passed, new_token, read_id, read_token
from shopfit.registry.merchants import check_known
from shopfit.registry.schema import KEYS

_NO_HASH = "0" * 64  # compared with where there is no key, so that this takes the same steps
_LISTED = [column for column in KEYS.c if column.name != "sha256"]
_NEW = "if its first adapter is yet to come, add `--new` (in Python: `new=True`)"


class Keyring:
    """The part of `Registry` that is about API keys."""

    _database: Database

    def create_key(
        self,
        merchant: str | None,
        scopes: Iterable[str],
        *,
        expires: datetime | timedelta | None = None,
        name: str = "",
        new: bool = False,
        actor: str,
    ) -> IssuedKey:
        """Make an API key. Its token is in the answer, and nowhere else.

        Args:
            merchant: whose data it reaches; None for the platform's, which reaches every merchant.
            scopes: one or more of `SCOPES`: what it may do. `admin` includes the others.
            expires: when it ends: a time with time zone, or from now; at most 100 years. None for never.
            name: for humans, 0-200 characters.
            new: allow a merchant of which the registry has nothing yet.
            actor: who makes it, for the audit.

        Raises:
            UnknownReference: if `merchant` cannot be one's name, or the registry has nothing of it and `new` is False.
            RegistryError: if another argument is invalid, or the registry cannot be written.
        """
        owner = None if merchant is None else validation.merchant(merchant)
        allowed, ends = validation.scopes(scopes), validation.expiry(expires)
        label, actor, new = validation.label(name), validation.actor(actor), validation.flag("new", new)
        if owner == HOUSE:
            raise RegistryError(
                f"{HOUSE} is no merchant: its versions are the starters",
                next_step="make a key of the platform, which reaches them, too",
            )
        token = new_token()
        proof = read_token(token)
        key = Key(proof.key, owner, allowed, label, datetime.now(UTC), ends, None, actor)
        with self._database.writing() as connection:
            if owner is not None and not new:
                check_known(connection, owner, _NEW)
            row = {column.name: getattr(key, column.name) for column in _LISTED}
            connection.execute(insert(KEYS).values(**row | {"scopes": list(allowed), "sha256": proof.sha256}))
            until = "until revoked" if ends is None else f"until {ends.isoformat(timespec='seconds')}"
            # without the name, which may be a person's: the audit outlives an erasure
            detail = f"key {key.id}: {', '.join(allowed)}; {until}"
            queries.record(connection, actor, "key-create", owner or "", "", 0, detail)
        return IssuedKey(key, token)

    def revoke_key(self, key: str, *, actor: str) -> Key:
        """Revoke a key for good; one that is revoked already stays as it is. Servers refuse it within a second.

        Args:
            key: its id, or its whole token.
            actor: who revokes it, for the audit.

        Raises:
            UnknownReference: if there is no such key.
            RegistryError: if `key` cannot be one's id, or the registry cannot be written.
        """
        wanted, actor = read_id(key), validation.actor(actor)
        with self._database.writing() as connection:
            statement = update(KEYS).where(KEYS.c.id == wanted, KEYS.c.revoked.is_(None))
            changed = connection.execute(statement.values(revoked=datetime.now(UTC))).rowcount
            row = connection.execute(select(*_LISTED).where(KEYS.c.id == wanted)).one_or_none()
            if row is None:
                hint = did_you_mean(wanted, connection.execute(select(KEYS.c.id)).scalars())
                raise UnknownReference(
                    f"there is no key {wanted!r}{hint}", next_step="run `shopfit key ls` to see the ids there are"
                )
            revoked = _key(row)
            if changed:
                queries.record(connection, actor, "key-revoke", revoked.merchant or "", "", 0, f"key {revoked.id}")
        return revoked

    def keys(self, merchant: str | None = None) -> list[Key]:
        """Every key, or those of a merchant; the platform's first, then by merchant, the oldest first.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        wanted = [] if merchant is None else [KEYS.c.merchant == validation.merchant(merchant)]
        with self._database.reading() as connection:
            found = [_key(row) for row in connection.execute(select(*_LISTED).where(*wanted))]
        return sorted(found, key=lambda key: (key.merchant or "", key.created, key.id))

    def check_key(self, token: str) -> Grant:
        """What the key of `token` may do. It reads the database and writes nothing; servers use a `KeyCache`.

        Raises:
            KeyRefused: if it is malformed, unknown, expired or revoked; the message is the same for all of them.
            RegistryError: if the registry cannot be read.
        """
        proof = read_token(token)
        with self._database.reading() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.id == proof.key)).one_or_none()
        if not hmac.compare_digest(proof.sha256, _NO_HASH if row is None else row.sha256) or row is None:
            raise KeyRefused("unknown")
        if row.revoked is not None:
            raise KeyRefused("revoked", proof.key)
        if has_passed(row.expires):
            raise KeyRefused("expired", proof.key)
        return Grant(row.id, row.merchant, frozenset(row.scopes), row.expires)


def _key(row: Row[Any]) -> Key:
    kept = row._asdict()
    return Key(**kept | {"scopes": tuple(scope for scope in SCOPES if scope in kept["scopes"])})
