"""Pseudonyms of merchants' users: a keyed hash, by which rows of one user belong together and nobody is named."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from shopfit.errors import ShopfitError

_FILE = "user-hash.key"
_LEAST = 16  # bytes of a key


class UserHashes:
    """Hashes users with a key of the platform. The same user has another hash with another merchant.

    Args:
        home: folder where the key is kept, unless it is given; it is made when it is first needed.
        given: the key, where several gateways are to share it (`SHOPFIT_USER_KEY`); empty for the file's.

    Raises:
        ShopfitError: if a key is too short.
    """

    def __init__(self, home: Path, given: str = "") -> None:
        self._file = home / _FILE
        self._key = given.encode()
        if given and len(self._key) < _LEAST:
            raise ShopfitError(
                f"SHOPFIT_USER_KEY has {len(self._key)} bytes (allowed: {_LEAST} or more)",
                next_step='make one: `python -c "import secrets; print(secrets.token_hex(32))"`',
            )

    def of(self, merchant: str, user: str) -> str | None:
        """The pseudonym of a merchant's user, 32 hex digits; None of the empty one.

        Raises:
            ShopfitError: if the key cannot be read or made.
        """
        if not user:
            return None
        self._key = self._key or self._kept()
        text = f"{merchant}\0{user}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:32]

    def _kept(self) -> bytes:
        try:
            if not self._file.exists():
                self._make()
            key = self._file.read_bytes()
        except OSError as error:
            raise ShopfitError(
                f"the key of user hashes {self._file} cannot be read or made: {error.strerror}",
                next_step="make its folder writable, or set SHOPFIT_USER_KEY",
            ) from error
        if len(key) < _LEAST:
            raise ShopfitError(
                f"{self._file} has {len(key)} bytes (allowed: {_LEAST} or more)",
                next_step="delete it to have a new one made: users get other hashes then",
            )
        return key

    def _make(self) -> None:
        """Write a new key, whole or not at all, for this account only; another process's stays if it was first."""
        unfinished = self._file.with_name(f"{_FILE}.{secrets.token_hex(8)}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode())
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(unfinished, self._file)
            except FileExistsError:
                return
        finally:
            unfinished.unlink()
