"""Which version answers a request for an adapter's @production: that one, or its canary for a part of the users."""

import hashlib
import random
from typing import Literal, NamedTuple

from shopfit.errors import UnknownReference
from shopfit.registry import Reference, Release, Version
from shopfit.registry.reference import PRODUCTION
from shopfit.serve.adapters import Adapters
from shopfit.serve.registry_state import RegistryState


class Chosen(NamedTuple):
    """The version that answers a request.

    Args:
        version: that answers.
        release: why: it is in "production", or its "canary", or "named" by number or another alias.
        propensity: the probability with which it was chosen, above 0, at most 1.
    """

    version: Version
    release: Literal["production", "canary", "named"]
    propensity: float


class Releases:
    """Chooses versions. For the event loop.

    Args:
        state: of the registry, with the releases under way.
        adapters: that find versions.
    """

    def __init__(self, state: RegistryState, adapters: Adapters) -> None:
        self._state = state
        self._adapters = adapters

    async def choose(self, reference: Reference, version: Version, user: str) -> Chosen:
        """The version that answers a request.

        Args:
            reference: that it names.
            version: that the reference names.
            user: the merchant's shopper, who stays with the version that answered as long as the canary's share does
                not shrink; empty if it is not said: then each request is chosen for by itself.

        Raises:
            RegistryError: if the canary must be looked up, and the registry cannot be read.
        """
        if reference.alias != PRODUCTION:
            return Chosen(version, "named", 1.0)
        canary = self.of(version, "canary")
        if canary is None:
            return Chosen(version, "production", 1.0)
        if place(canary, user) >= canary.share:
            return Chosen(version, "production", 1.0 - canary.share)
        found = await self.find(canary)
        return Chosen(version, "production", 1.0) if found is None else Chosen(found, "canary", canary.share)

    def of(self, production: Version, kind: Literal["canary", "shadow"]) -> Release | None:
        """An adapter's canary or shadow, unless that is the version in production by now."""
        known = self._state.releases.get((production.merchant, production.recipe), ())
        return next((one for one in known if one.kind == kind and one.number != production.number), None)

    async def find(self, release: Release) -> Version | None:
        """The version of a release; None if it is gone, or its number names other weights by now.

        Raises:
            RegistryError: if it must be looked up, and the registry cannot be read.
        """
        try:
            version = await self._adapters.look_up(Reference(release.merchant, release.recipe, release.number))
        except UnknownReference:
            return None
        return version if version.digest == release.digest else None


def place(canary: Release, user: str) -> float:
    """Where a user stands in [0, 1) with a canary: always at the same place, at another one with each version."""
    if not user:
        return random.random()
    parts = (canary.merchant, canary.recipe, str(canary.number), user)
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7]) / 2**56
