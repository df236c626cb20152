"""The registry: publish a bundle as a version, find it by reference, bring it here, and move the aliases.

Order is what keeps it whole. Blobs are on the disk before the one transaction that names them, so that whenever a
process dies there is either the whole version or none; blobs that no version names are collected later.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, Manifest, bundle_digest
from shopfit.errors import Problem, RegistryError, UnknownReference
from shopfit.registry import checking, erasing, fetching, naming, publishing, rows
from shopfit.registry.blobs import BlobStore
from shopfit.registry.database import Database
from shopfit.registry.erasing import Receipt
from shopfit.registry.leavings import Space
from shopfit.registry.reference import CANDIDATE, PRODUCTION, Reference
from shopfit.registry.rows import File
from shopfit.registry.version import AuditEntry, Identity, Version
from shopfit.settings import Settings


class Registry:
    """Versions of adapters. Safe for threads, and for any number of processes on one registry.

    Args:
        database: where versions, aliases and the audit are.
        blobs: where files are; a blob store belongs to one registry.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._claimed = False  # whether the blob store has this registry's mark

    @classmethod
    def open(cls, settings: Settings, *, patience: float = 30.0) -> "Registry":
        """Open the registry, and make it if it is not there.

        Args:
            settings: `registry` and `blobs` say where it is.
            patience: seconds to wait for another process that is writing.

        Raises:
            RegistryError: if it cannot be reached, or was made by a newer release.
        """
        patience = checking.patience(patience)
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

    def publish(self, bundle: Bundle, *, refused: str | None = None, promote: bool, actor: str) -> Version:
        """Register a bundle as the next version of its merchant and recipe.

        Args:
            bundle: it is verified first, and its files are copied.
            refused: why the gate did not let it pass; such a version gets no alias, whatever `promote` says.
            promote: let @production name it (and @previous what @production named), not just @candidate.
            actor: who publishes, for the audit.

        Raises:
            BundleError: if the bundle is incomplete, was edited, or cannot be kept as it is.
            RegistryError: if the registry cannot be written, or an argument not be kept; then nothing is registered.
        """
        actor, promote = checking.actor(actor), checking.flag("promote", promote)
        refused = None if refused is None else checking.reason(refused)
        bundle = Bundle.open(checking.bundle(bundle).folder)
        contents = publishing.contents(bundle)
        files = [File(path, hashlib.sha256(content).hexdigest(), len(content)) for path, content in contents.items()]
        digest = bundle_digest({file.path: file.sha256 for file in files})
        for file in files:
            self._blobs.put(contents[file.path], file.sha256)
        manifest = bundle.manifest
        merchant, recipe = manifest.merchant, manifest.recipe
        with self._database.writing() as connection:
            missing = self._blobs.missing(file.sha256 for file in files)  # collected since; from here on, none can be
            for file in files:
                if file.sha256 in missing:
                    self._blobs.put(contents[file.path], file.sha256)
            number = rows.next_number(connection, merchant, recipe)
            rows.add_version(connection, number, manifest, digest, files, refused)
            outcome = "ready" if refused is None else f"refused: {refused}"
            rows.record(connection, actor, "publish", merchant, recipe, number, f"{outcome}; digest {digest}")
            if refused is None:
                naming.point(connection, merchant, recipe, PRODUCTION if promote else CANDIDATE, number, actor)
            if not self._claimed and (own := rows.identity(connection)):
                self._blobs.claim(own)
                self._claimed = True
            return naming.found(connection, Reference(merchant, recipe, number))

    def resolve(self, reference: str | Reference) -> Version:
        """The version that `reference` names now.

        Raises:
            UnknownReference: if it is malformed or names nothing; it tells what the same merchant has instead.
            RegistryError: if the registry cannot be read.
        """
        parsed = checking.reference(reference)
        with self._database.reading() as connection:
            return naming.found(connection, parsed)

    def identities(self, references: Iterable[Reference]) -> dict[Reference, Identity]:
        """The number and the digest that each reference names now, in one state of the registry.

        References that name nothing, since their version was removed or their merchant erased, are left out. Made for
        servers that watch many references: a few statements, however many there are. What is cached is known by the
        digest; the number is what to show.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        asked = [checking.reference(reference) for reference in references]
        with self._database.reading() as connection:
            return rows.identities(connection, asked)

    @property
    def near(self) -> bool:
        """Whether its blobs lie in a local folder, so that reading them is no waiting."""
        return self._blobs.local

    def erased(self, version: Version) -> bool:
        """Whether a removed version went with all that its merchant had: nothing is left of it, or an erasure took it.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        merchant = checking.version(version).merchant
        with self._database.reading() as connection:
            return not rows.find_all(connection, merchant, None) or erasing.took(
                rows.audit(connection, merchant), version.name
            )

    def versions(self, merchant: str | None = None, recipe: str | None = None) -> list[Version]:
        """Every version, or those of a merchant, a recipe, or both; by name and number.

        Raises:
            UnknownReference: if a name cannot be one.
            RegistryError: if the registry cannot be read.
        """
        merchant = None if merchant is None else checking.merchant(merchant)
        recipe = None if recipe is None else checking.merchant(recipe, "recipe")
        with self._database.reading() as connection:
            return rows.find_all(connection, merchant, recipe)

    def digests(self) -> set[str]:
        """The digest of every version.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._database.reading() as connection:
            return rows.digests(connection)

    def fetch(self, version: Version, cache: Path) -> Bundle:
        """The bundle of `version`, on local disk.

        It lies in `cache/<digest>/`; one that is there already is used after re-hashing all of it (10 ms for 20 MB).
        Every file is checked before the folder gets its name.

        Args:
            version: what `resolve` or `versions` told.
            cache: folder, such as `Settings.cache`.

        Raises:
            BundleError: if what the registry keeps of the version is damaged.
            UnknownReference: if the version was removed, or its number names other weights by now.
            RegistryError: if the registry cannot be read, or the cache not be written.
        """
        folder, version = checking.folder(cache), checking.version(version)
        return fetching.fetch(version, folder, self._files(version), self._blobs)

    def read(
        self,
        version: Version,
        needed: Callable[[Collection[str]], Collection[str]],
        cache: Path | None = None,
    ) -> HeldBundle:
        """Files of a version in memory, every one checked after it was read.

        Args:
            version: what `resolve` or `versions` told.
            needed: told the paths of all files, says which ones are wanted, `bundle.json` among them.
            cache: folder that saves the way to a distant store, as `fetch` fills it; unused where blobs are near.

        Raises:
            BundleError: if what the registry keeps of them is damaged.
            UnknownReference: if the version was removed, or its number names other weights by now.
            RegistryError: if the registry cannot be read, or the cache not be written.
        """
        version = checking.version(version)
        folder = None if cache is None or self._blobs.local else checking.folder(cache)
        return fetching.read(version, self._files(version), needed, self._blobs, folder)

    def manifest(self, version: Version) -> Manifest:
        """The manifest of a version. Raises as `read` does."""
        return self.read(version, lambda _: {MANIFEST}).manifest

    def _files(self, version: Version) -> list[File]:
        reference = Reference(version.merchant, version.recipe, version.number)
        with self._database.reading() as connection:
            if files := rows.files(connection, version):
                return files
            now = naming.found(connection, reference)
            if now.digest != version.digest:
                raise UnknownReference(
                    f"{version.name} of digest {version.digest[:12]} is not there any more: the number names "
                    f"{now.digest[:12]} now, since the registry was put back from a backup",
                    next_step="resolve the reference again",
                )
            return []

    def promote(
        self, reference: str | Reference, *, alias: str = PRODUCTION, actor: str, force: bool = False
    ) -> Version:
        """Let an alias name a version.

        Args:
            reference: the version.
            alias: what shall name it. "production" leaves "previous" behind, which cannot be moved by hand.
            actor: who promotes, for the audit.
            force: even if the gate refused the version.

        Raises:
            UnknownReference: if there is no such version, or `alias` is malformed.
            RegistryError: if the version was refused, `alias` is "previous", or the registry cannot be written.
        """
        parsed, actor = checking.reference(reference), checking.actor(actor)
        alias, force = checking.alias(parsed, alias), checking.flag("force", force)
        return naming.promote(self._database, parsed, alias, actor, force=force)

    def rollback(self, adapter: str, *, actor: str) -> Version:
        """Let @production and @previous change places.

        Args:
            adapter: `merchant/recipe`.
            actor: who rolls back, for the audit.

        Returns:
            what @production names now.

        Raises:
            UnknownReference: if there is no such adapter, or nothing in production.
            RegistryError: if there is no @previous, or the registry cannot be written.
        """
        parsed, actor = Reference.parse(adapter), checking.actor(actor)
        return naming.rollback(self._database, parsed, actor)

    def remove(self, reference: str | Reference, *, actor: str) -> Version:
        """Remove a version. Its number is never given again, and the audit keeps it.

        Blobs that no other version has go, too, unless another registry uses the store.

        Args:
            reference: the version.
            actor: who removes it, for the audit.

        Returns:
            what was removed.

        Raises:
            UnknownReference: if there is no such version.
            RegistryError: if an alias names it, or the registry cannot be written.
        """
        parsed, actor = checking.reference(reference), checking.actor(actor)
        with self._database.writing() as connection:
            rows.lock(connection, parsed.merchant, parsed.recipe)
            version = naming.found(connection, parsed)
            if version.aliases:
                raise RegistryError(
                    f"{version.name} cannot be removed: "
                    f"{' and '.join(f'@{alias}' for alias in version.aliases)} "
                    f"{'names' if len(version.aliases) == 1 else 'name'} it",
                    next_step=f"promote another version, or {naming.to_unalias(version)}",
                )
            files = rows.files(connection, version)
            rows.remove_version(connection, version)
            detail = f"{version.status}; digest {version.digest}; {version.size} bytes"
            rows.record(connection, actor, "remove", version.merchant, version.recipe, version.number, detail)
        with suppress(RegistryError):  # it is gone; what stays of its blobs is for `collect_garbage`
            self._free({file.sha256 for file in files})
        return version

    def _free(self, digests: set[str]) -> None:
        with self._database.writing(alone=True) as connection:
            self._blobs.check_sole(rows.identity(connection))
            self._blobs.remove(digests - rows.used_of(connection, digests, None))

    def unalias(self, reference: str | Reference, *, actor: str) -> Version:
        """Take an alias away. What it named stays, and may be removed once nothing else names it.

        Args:
            reference: the alias in full, such as `acme/review-sentiment@candidate`; without one it is @production.
            actor: who takes it away, for the audit.

        Returns:
            what it named, with the aliases that are left.

        Raises:
            UnknownReference: if there is no such alias, or `reference` is a number.
            RegistryError: if the registry cannot be written.
        """
        parsed, actor = checking.reference(reference), checking.actor(actor)
        return naming.unalias(self._database, parsed, actor)

    def erase(self, merchant: str, settings: Settings, *, actor: str, dry_run: bool = False) -> Receipt:
        """Remove everything that shopfit keeps of a merchant; its own folder of data is not touched.

        Engines drop its adapters when they next look at the registry, within a second. Erasing goes on where an earlier
        one was broken off; where one had ended, it removes what another machine that served the merchant still keeps,
        or tells the receipt again. The name can be used anew, and its versions count on.

        Args:
            merchant: its name.
            settings: of this machine, for its cache and what tuning keeps.
            actor: who erases it, for the audit.
            dry_run: only tell what would go.

        Returns:
            the receipt, which the audit keeps under the merchant's name.

        Raises:
            UnknownReference: if nothing of it is there, and never was.
            RegistryError: if something cannot be removed; what was can be gone on with.
        """
        name, actor = checking.merchant(merchant), checking.actor(actor)
        return erasing.erase(self._database, self._blobs, settings, name, actor, dry_run=dry_run)

    def receipts(self, merchant: str) -> list[Receipt]:
        """Of every time that a merchant was erased, oldest first. Raises as `audit` does."""
        return erasing.receipts(self.audit(checking.merchant(merchant)))

    def verify(self, reference: str | Reference | None = None) -> list[tuple[Version, Problem]]:
        """Re-hash every blob of a version, or of all of them.

        Returns:
            everything that is not as it was published; empty if all is well.

        Raises:
            UnknownReference: if there is no such version.
            RegistryError: if the registry cannot be read.
        """
        parsed = None if reference is None else checking.reference(reference)
        with self._database.reading() as connection:
            versions = rows.find_all(connection) if parsed is None else [naming.found(connection, parsed)]
            kept = [(version, rows.files(connection, version)) for version in versions]
        return [(v, problem) for v, files in kept for problem in fetching.problems(v, files, self._blobs)]

    def audit(self, merchant: str | None = None) -> list[AuditEntry]:
        """Who changed what, oldest first; of one merchant, or of all.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        merchant = None if merchant is None else checking.merchant(merchant)
        with self._database.reading() as connection:
            return rows.audit(connection, merchant)

    def collect_garbage(self, *, grace: timedelta = timedelta(days=1), dry_run: bool = False) -> Space:
        """Remove blobs that no version names, and what interrupted writes left.

        Args:
            grace: younger blobs stay, for they may be of a version that is being published.
            dry_run: only look.

        Returns:
            how many files went, or would, and their bytes.

        Raises:
            RegistryError: if another registry uses the store, or the registry or its blobs cannot be written.
        """
        before = datetime.now(UTC) - checking.grace(grace)
        with self._database.reading() if dry_run else self._database.writing(alone=True) as connection:
            self._blobs.check_sole(rows.identity(connection))
            return self._blobs.remove_stale(rows.used_blobs(connection), before, dry_run=dry_run)
