"""Which keys are valid, for servers: from memory for at most a second, so that few requests wait for the database."""

import hmac
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from shopfit.errors import KeyRefused
from shopfit.registry import validation
from shopfit.registry.grant import Grant, Proof, has_passed, read_token

if TYPE_CHECKING:
    from shopfit.registry.registry import Registry


class _Held(NamedTuple):
    sha256: str
    grant: Grant
    until: float  # time.monotonic()


class KeyCache:
    """Checks keys, and remembers for a moment what was valid. Any thread may ask.

    Refusals are not remembered, so unknown keys, however many, take no memory and displace no valid one: they cost a
    look-up each. A wrong secret for a known id takes the same look-up.

    Args:
        registry: where keys are looked up.
        seconds: how long a valid key is remembered, 0 to 1; a revocation takes that long at most.
        size: keys that are remembered, 1 or more; those not asked for the longest go first.

    Raises:
        RegistryError: if `seconds` or `size` is out of range.
    """

    def __init__(self, registry: "Registry", *, seconds: float = 1.0, size: int = 10_000) -> None:
        self._registry = registry
        self._seconds = validation.number("seconds", seconds, 0, 1)
        self._size = int(validation.number("size", size, 1, 10_000_000))
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many keys it remembers."""
        return len(self._held)

    def known(self, token: str) -> Grant | None:
        """What the key of `token` may do, if that is remembered; no look-up, so it never waits.

        Raises:
            KeyRefused: if it is malformed, or has expired since it was remembered.
        """
        return self._remembered(read_token(token), time.monotonic())

    def check(self, token: str) -> Grant:
        """What the key of `token` may do.

        Raises:
            KeyRefused: if it is malformed, unknown, expired or revoked; the message is the same for all of them.
            RegistryError: if the registry cannot be read; what was valid longer ago is not trusted then.
        """
        asked = time.monotonic()  # before it is read, so that what is read is never older than it is taken for
        proof = read_token(token)
        if (known := self._remembered(proof, asked)) is not None:
            return known
        grant = self._registry.check_key(token)
        with self._lock:
            self._held[proof.key] = _Held(proof.sha256, grant, asked + self._seconds)
            self._held.move_to_end(proof.key)
            if len(self._held) > self._size:
                self._held.popitem(last=False)
        return grant

    def _remembered(self, proof: Proof, now: float) -> Grant | None:
        with self._lock:
            held = self._held.get(proof.key)
            if held is not None and now >= held.until:
                del self._held[proof.key]
                held = None
            elif held is not None:
                self._held.move_to_end(proof.key)
        if held is None or not hmac.compare_digest(proof.sha256, held.sha256):
            return None
        if has_passed(held.grant.expires):
            raise KeyRefused("expired", proof.key)
        return held.grant
