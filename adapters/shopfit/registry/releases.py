"""Releases: versions that get a part of an adapter's traffic beside its @production, so that they prove themselves.

The registry keeps who gets what; servers do it. At most one canary and one shadow an adapter.
"""

from shopfit.errors import RegistryError, UnknownRelease
from shopfit.registry import aliases, queries, validation
from shopfit.registry.database import Database
from shopfit.registry.reference import PRODUCTION, Reference
from shopfit.registry.serving import Release, ReleaseKind


class Releases:
    """The part of `Registry` that is about releases."""

    _database: Database

    def start_release(self, reference: str | Reference, *, kind: ReleaseKind, share: float, actor: str) -> Release:
        """Give a version a part of its adapter's traffic, in place of the version that had it.

        Promoting the version, or rolling back to it, ends its releases.

        Args:
            reference: the version. An alias is resolved now: moving it later changes nothing.
            kind: "canary" answers a part of the users; "shadow" is asked a part of the requests, too, and never heard.
            share: how large that part is: above 0, at most 1.
            actor: who starts it, for the audit.

        Raises:
            UnknownReference: if there is no such version.
            RegistryError: if the gate refused the version, it is in production, or nothing is that it could be beside;
                if an argument is invalid, or the registry cannot be written.
        """
        parsed, kind = validation.reference(reference), validation.release_kind(kind)
        share, actor = validation.share(share), validation.actor(actor)
        with self._database.writing() as connection:
            queries.lock(connection, parsed.merchant, parsed.recipe)
            version = aliases.found(connection, parsed)
            production = queries.aliases(connection, version.merchant, version.recipe).get(PRODUCTION)
            if version.status == "refused":
                raise RegistryError(
                    f"{version.name} was refused by the gate, and gets no traffic: {version.reason}",
                    next_step="publish a better one",
                )
            if production is None:
                raise RegistryError(
                    f"{version.merchant}/{version.recipe} has no @{PRODUCTION} that {version.name} could be beside",
                    next_step=f"promote a version: `shopfit registry promote {version.name}`",
                )
            if production == version.number:
                raise RegistryError(
                    f"{version.name} is @{PRODUCTION}, and gets all of the traffic",
                    next_step="name another version; `shopfit registry ls` shows them",
                )
            queries.put_release(connection, version.merchant, version.recipe, kind, version.number, share)
            detail = f"{kind}, share {share:g}"
            queries.record(connection, actor, "release", version.merchant, version.recipe, version.number, detail)
        return Release(version.merchant, version.recipe, kind, version.number, version.digest, share)

    def end_release(self, adapter: str, *, kind: ReleaseKind, actor: str) -> Release:
        """Take a release's part of the traffic back.

        Args:
            adapter: `merchant/recipe`.
            kind: which of its releases.
            actor: who ends it, for the audit.

        Returns:
            the release that ended.

        Raises:
            UnknownRelease: if the adapter has no such release.
            RegistryError: if an argument is invalid, or the registry cannot be written.
        """
        parsed, kind, actor = Reference.parse(adapter), validation.release_kind(kind), validation.actor(actor)
        named = f"{parsed.merchant}/{parsed.recipe}"
        if parsed.alias != PRODUCTION:
            raise RegistryError(f"a release is of {named}, not of {parsed}", next_step=f"name {named}")
        with self._database.writing() as connection:
            queries.lock(connection, parsed.merchant, parsed.recipe)
            there = queries.releases(connection, parsed.merchant, parsed.recipe)
            ended = next((release for release in there if release.kind == kind), None)
            if ended is None:
                raise UnknownRelease(
                    f"{named} has no {kind}", next_step="run `shopfit release ls` to see the releases there are"
                )
            queries.end_release(connection, ended, actor)
        return ended

    def releases(self, merchant: str | None = None) -> list[Release]:
        """Every release, or those of a merchant; by name and kind.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        wanted = None if merchant is None else validation.merchant(merchant)
        with self._database.reading() as connection:
            return queries.releases(connection, wanted)
