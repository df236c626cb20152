"""The registry: publish a bundle as a version, resolve references, download bundles, and move aliases.

Blobs are stored durably before the one transaction that references them, so that if a process dies there is either the
whole version or none; unreferenced blobs are collected as garbage later.
"""

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from shopfit.adapter.bundle import Bundle, bundle_digest
from shopfit.errors import RegistryError
from shopfit.registry import aliases, erasing, publishing, queries, validation
from shopfit.registry.blobs import BlobStore
from shopfit.registry.catalogs import Catalogs
from shopfit.registry.database import Database
from shopfit.registry.erasing import Receipt
from shopfit.registry.feedback import FeedbackLog
from shopfit.registry.keys import Keyring
from shopfit.registry.overview import Overview
from shopfit.registry.queries import File
from shopfit.registry.quotas import Quotas
from shopfit.registry.reference import CANDIDATE, PRODUCTION, Reference
from shopfit.registry.releases import Releases
from shopfit.registry.version import AuditEntry, Identity, Revision, Version
from shopfit.settings import Settings


class Registry(Catalogs, Keyring, Releases, Quotas, FeedbackLog, Overview):
    """Versions of adapters, and what servers share. Thread-safe, and safe for any number of processes on one registry.

    Args:
        database: of all but the files.
        blobs: store of files; it belongs to one registry.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._claimed = False
        self._seen: tuple[Hashable, Revision] | None = None
        self._patching = WeakValueDictionary()

    @classmethod
    def open(cls, settings: Settings, *, patience: float = 30.0) -> "Registry":
        """Open the registry, and create it if it does not exist.

        Args:
            settings: with the addresses `registry` and `blobs`.
            patience: seconds to wait for another process that is writing.

        Raises:
            RegistryError: if it cannot be reached, or was migrated by a newer release.
        """
        patience = validation.patience(patience)
        blobs = BlobStore.open(settings.blobs)
        return cls(Database.open(settings.registry, patience=patience), blobs)

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.close()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(
        self,
        bundle: Bundle,
        *,
        refused: str | None = None,
        promote: bool,
        actor: str,
        summary: Mapping[str, Any] | None = None,
        erasures: Mapping[str, int] | None = None,
    ) -> Version:
        """Register a bundle as the next version of its merchant and recipe.

        Args:
            bundle: it is verified first, and its files are copied.
            refused: why the gate refused it; such a version gets no alias, whatever `promote` is.
            promote: move @production to it too (and @previous to the old one), not just @candidate.
            actor: who publishes, for the audit.
            summary: what its report says in short, as plain JSON; kept with the version.
            erasures: what `erasures` gave before the data was read that the bundle has learned from.

        Raises:
            BundleError: if the bundle is incomplete, was edited, or cannot be stored as it is.
            RegistryError: if one of those merchants was erased since, the registry cannot be written, or an argument is
                invalid; then nothing is registered.
        """
        actor, promote = validation.actor(actor), validation.flag("promote", promote)
        refused = None if refused is None else validation.reason(refused)
        bundle = Bundle.open(validation.bundle(bundle).folder)
        contents = publishing.contents(bundle)
        files = [File(path, hashlib.sha256(content).hexdigest(), len(content)) for path, content in contents.items()]
        digest = bundle_digest({file.path: file.sha256 for file in files})
        for file in files:
            self._blobs.put(contents[file.path], file.sha256)
        manifest = bundle.manifest
        merchant, recipe = manifest.merchant, manifest.recipe
        with self._database.writing() as connection:
            erasing.check_there(connection, erasures or {})
            # some may have been collected as garbage since; the transaction excludes more of that
            missing = self._blobs.missing(file.sha256 for file in files)
            for file in files:
                if file.sha256 in missing:
                    self._blobs.put(contents[file.path], file.sha256)
            number = queries.next_number(connection, merchant, recipe)
            queries.add_version(connection, number, manifest, digest, files, refused, summary)
            outcome = "ready" if refused is None else f"refused: {refused}"
            queries.record(connection, actor, "publish", merchant, recipe, number, f"{outcome}; digest {digest}")
            if refused is None:
                aliases.point(connection, merchant, recipe, PRODUCTION if promote else CANDIDATE, number, actor)
            self._claim(connection)
            return aliases.found(connection, Reference(merchant, recipe, number))

    def resolve(self, reference: str | Reference) -> Version:
        """The version that `reference` names now.

        Raises:
            UnknownReference: if it is malformed or names nothing; the message lists what the merchant has.
            RegistryError: if the registry cannot be read.
        """
        parsed = validation.reference(reference)
        with self._database.reading() as connection:
            return aliases.found(connection, parsed)

    def revision(self) -> Revision:
        """What changes with every change that servers watch: one cheap statement, to be asked several times a second.

        It is another one after each publishing, promotion, rollback, removal and erasure, after each change of an
        alias, release, limit, catalog or key, and when a backup was put back. Usage and feedback leave it as it is. Ask
        for it before what is read because of it.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        mark, seen = self._database.mark(), self._seen
        if mark is not None and seen is not None and seen[0] == mark:
            return seen[1]
        with self._database.reading() as connection:
            found = queries.revision(connection)
        self._seen = mark, found
        return found

    def identities(self, references: Iterable[Reference]) -> dict[Reference, Identity]:
        """The number and the digest that each reference names now, in one snapshot of the registry.

        References that name nothing, as after removal or erasure, are left out. For servers that watch many references:
        it takes few statements, however many there are. Caches go by the digest; the number is for display.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        asked = [validation.reference(reference) for reference in references]
        with self._database.reading() as connection:
            return queries.identities(connection, asked)

    def erased(self, version: Version) -> bool:
        """Whether a removed version's merchant has no versions left, or the version was removed by an erasure.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        merchant = validation.version(version).merchant
        with self._database.reading() as connection:
            return not queries.find_all(connection, merchant, None) or erasing.took(
                queries.audit(connection, merchant), version.name
            )

    def versions(self, merchant: str | None = None, recipe: str | None = None) -> list[Version]:
        """Every version, or those of a merchant, a recipe, or both; by name and number.

        Raises:
            UnknownReference: if a name cannot be one.
            RegistryError: if the registry cannot be read.
        """
        merchant = None if merchant is None else validation.merchant(merchant)
        recipe = None if recipe is None else validation.merchant(recipe, "recipe")
        with self._database.reading() as connection:
            return queries.find_all(connection, merchant, recipe)

    def of_bases(self, most: int = 1) -> list[Version]:
        """Versions in production, some of each base: which bases there are to serve. It takes one statement.

        Args:
            most: versions of each base, 1 or more: the first ones by name.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._database.reading() as connection:
            return queries.of_bases(connection, most)

    def check_blobs(self) -> None:
        """Check that the blob store can be read.

        Raises:
            RegistryUnavailable: if it cannot.
        """
        self._blobs.read("0" * 64)

    def digests(self) -> set[str]:
        """The digest of every version.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._database.reading() as connection:
            return queries.digests(connection)

    def promote(
        self, reference: str | Reference, *, alias: str = PRODUCTION, actor: str, force: bool = False
    ) -> Version:
        """Move an alias to a version.

        Args:
            reference: the version.
            alias: to move. Moving "production" also moves "previous", which cannot be moved by itself.
            actor: who promotes, for the audit.
            force: allow a version that the gate refused.

        Raises:
            UnknownReference: if there is no such version, or `alias` is malformed.
            RegistryError: if the version was refused, `alias` is "previous", or the registry cannot be written.
        """
        parsed, actor = validation.reference(reference), validation.actor(actor)
        alias, force = validation.alias(parsed, alias), validation.flag("force", force)
        return aliases.promote(self._database, parsed, alias, actor, force=force)

    def rollback(self, adapter: str, *, actor: str) -> Version:
        """Swap @production and @previous.

        Args:
            adapter: `merchant/recipe`.
            actor: who rolls back, for the audit.

        Returns:
            the version that is @production now.

        Raises:
            UnknownReference: if there is no such adapter, or it has no @production.
            RegistryError: if there is no @previous, or the registry cannot be written.
        """
        parsed, actor = Reference.parse(adapter), validation.actor(actor)
        return aliases.rollback(self._database, parsed, actor)

    def remove(self, reference: str | Reference, *, actor: str) -> Version:
        """Remove a version. Its number is never reused, and its audit entries stay.

        Blobs that no other version uses are removed too, unless another registry uses the store.

        Args:
            reference: the version.
            actor: who removes it, for the audit.

        Returns:
            the removed version.

        Raises:
            UnknownReference: if there is no such version.
            RegistryError: if an alias names it, a release is of it, or the registry cannot be written.
        """
        parsed, actor = validation.reference(reference), validation.actor(actor)
        with self._database.writing() as connection:
            queries.lock(connection, parsed.merchant, parsed.recipe)
            version = aliases.found(connection, parsed)
            if version.aliases:
                raise RegistryError(
                    f"{version.name} cannot be removed: "
                    f"{' and '.join(f'@{alias}' for alias in version.aliases)} "
                    f"{'names' if len(version.aliases) == 1 else 'name'} it",
                    next_step=f"promote another version, or {aliases.to_unalias(version)}",
                )
            aliases.check_unreleased(connection, version)
            files = queries.files(connection, version)
            queries.remove_version(connection, version)
            detail = f"{version.status}; digest {version.digest}; {version.size} bytes"
            queries.record(connection, actor, "remove", version.merchant, version.recipe, version.number, detail)
        with suppress(RegistryError):  # the version is removed; `collect_garbage` removes blobs that stay
            self._free({file.sha256 for file in files})
        return version

    def unalias(self, reference: str | Reference, *, actor: str) -> Version:
        """Remove an alias. Its version stays, and can be removed once it has no alias.

        Args:
            reference: the alias in full, such as `acme/review-sentiment@candidate`; without one it is @production.
            actor: who removes it, for the audit.

        Returns:
            the version it named, with its remaining aliases.

        Raises:
            UnknownReference: if there is no such alias, or `reference` is a number.
            RegistryError: if the registry cannot be written.
        """
        parsed, actor = validation.reference(reference), validation.actor(actor)
        return aliases.unalias(self._database, parsed, actor)

    def erase(self, merchant: str, settings: Settings, *, actor: str, dry_run: bool = False) -> Receipt:
        """Remove everything that shopfit stores of a merchant; a data folder that lies elsewhere stays.

        Engines drop its adapters within a second, when they poll the registry. An interrupted erasure is completed.
        After a complete one, calling this on another machine removes that machine's files; else it returns the earlier
        receipt. The name can be used again, and its version numbers go on.

        Args:
            merchant: its name.
            settings: of this machine, with its cache and tuning folders.
            actor: who erases it, for the audit.
            dry_run: only report what would be removed.

        Returns:
            the receipt, which the audit stores under the merchant's name.

        Raises:
            UnknownReference: if there is no trace of the merchant, nor of an erasure.
            RegistryError: if something cannot be removed; the erasure can be repeated.
        """
        name, actor = validation.merchant(merchant), validation.actor(actor)
        return erasing.erase(self._database, self._blobs, settings, name, actor, dry_run=dry_run)

    def erasures(self, merchants: Iterable[str]) -> dict[str, int]:
        """The last erasure of each merchant, as a number; 0 of those that were never erased.

        Args:
            merchants: their names.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._database.reading() as connection:
            return erasing.last_of(connection, merchants)

    def receipts(self, merchant: str) -> list[Receipt]:
        """The receipts of a merchant's erasures, oldest first. Raises as `audit` does."""
        return erasing.receipts(self.audit(validation.merchant(merchant)))

    def audit(self, merchant: str | None = None) -> list[AuditEntry]:
        """Who changed what, oldest first; of one merchant, or of all.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        merchant = None if merchant is None else validation.merchant(merchant)
        with self._database.reading() as connection:
            return queries.audit(connection, merchant)
