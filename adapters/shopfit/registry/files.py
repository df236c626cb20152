"""The files of versions in the blob store: reading, verifying, and removing what nothing uses."""

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, Manifest
from shopfit.errors import Problem, UnknownReference
from shopfit.registry import aliases, fetching, queries, validation
from shopfit.registry.blobs import BlobStore
from shopfit.registry.database import Database
from shopfit.registry.queries import File
from shopfit.registry.reference import Reference
from shopfit.registry.temp_folders import Space
from shopfit.registry.version import Version


class VersionFiles:
    """The part of `Registry` that is about files."""

    _database: Database
    _blobs: BlobStore
    _claimed: bool  # whether the blob store has this registry's mark

    @property
    def near(self) -> bool:
        """Whether its blobs are in a local folder, so that reading them takes no network."""
        return self._blobs.local

    def fetch(self, version: Version, cache: Path) -> Bundle:
        """The bundle of `version`, on local disk.

        It is in `cache/<digest>/`; an existing one is used after re-hashing all of it (10 ms for 20 MB).
        Every file is verified before the folder gets that name.

        Args:
            version: from `resolve` or `versions`.
            cache: folder, such as `Settings.cache`.

        Raises:
            BundleError: if stored files of the version are damaged.
            UnknownReference: if the version was removed, or its number names other weights by now.
            RegistryError: if the registry cannot be read, or the cache cannot be written.
        """
        folder, version = validation.folder(cache), validation.version(version)
        return fetching.fetch(version, folder, self._files(version), self._blobs)

    def read(
        self,
        version: Version,
        needed: Callable[[Collection[str]], Collection[str]],
        cache: Path | None = None,
    ) -> HeldBundle:
        """Read files of a version into memory, every one verified.

        Args:
            version: from `resolve` or `versions`.
            needed: the paths of all files -> those to read, `bundle.json` among them.
            cache: folder of downloads from a remote store, as `fetch` fills it; unused if blobs are local.

        Raises:
            BundleError: if stored files are damaged.
            UnknownReference: if the version was removed, or its number names other weights by now.
            RegistryError: if the registry cannot be read, or the cache cannot be written.
        """
        version = validation.version(version)
        folder = None if cache is None or self._blobs.local else validation.folder(cache)
        return fetching.read(version, self._files(version), needed, self._blobs, folder)

    def manifest(self, version: Version) -> Manifest:
        """The manifest of a version. Raises as `read` does."""
        return self.read(version, lambda _: {MANIFEST}).manifest

    def listed(self, version: Version) -> list[File]:
        """The files of a version, by path, with their SHA-256 and size. Raises as `read` does, but reads no file."""
        return self._files(validation.version(version))

    def verify(self, reference: str | Reference | None = None) -> list[tuple[Version, Problem]]:
        """Re-hash every blob of a version, or of all of them.

        Returns:
            every difference from what was published; empty if there is none.

        Raises:
            UnknownReference: if there is no such version.
            RegistryError: if the registry cannot be read.
        """
        parsed = None if reference is None else validation.reference(reference)
        with self._database.reading() as connection:
            versions = queries.find_all(connection) if parsed is None else [aliases.found(connection, parsed)]
            kept = [(version, queries.files(connection, version)) for version in versions]
        return [(v, problem) for v, files in kept for problem in fetching.problems(v, files, self._blobs)]

    def collect_garbage(self, *, grace: timedelta = timedelta(days=1), dry_run: bool = False) -> Space:
        """Remove blobs that no version and no catalog uses, and temporary files of interrupted writes.

        Args:
            grace: younger blobs stay, as they may be of a version that is being published.
            dry_run: only count.

        Returns:
            how many files were or would be removed, and their bytes.

        Raises:
            RegistryError: if another registry uses the store, or the registry or its blobs cannot be written.
        """
        before = datetime.now(UTC) - validation.grace(grace)
        with self._database.reading() if dry_run else self._database.writing(alone=True) as connection:
            self._blobs.check_sole(queries.identity(connection))
            return self._blobs.remove_stale(queries.used_blobs(connection), before, dry_run=dry_run)

    def _files(self, version: Version) -> list[File]:
        reference = Reference(version.merchant, version.recipe, version.number)
        with self._database.reading() as connection:
            if files := queries.files(connection, version):
                return files
            now = aliases.found(connection, reference)
            if now.digest != version.digest:
                raise UnknownReference(
                    f"{version.name} of digest {version.digest[:12]} is not there any more: the number names "
                    f"{now.digest[:12]} now, since the registry was put back from a backup",
                    next_step="resolve the reference again",
                )
            return []

    def _claim(self, connection: Connection) -> None:
        """Mark the blob store as this registry's, once; call it when the audit has an entry."""
        if not self._claimed and (own := queries.identity(connection)):
            self._blobs.claim(own)
            self._claimed = True

    def _free(self, digests: Iterable[str]) -> None:
        """Remove blobs that nothing uses any more."""
        given = set(digests)
        with self._database.writing(alone=True) as connection:
            self._blobs.check_sole(queries.identity(connection))
            self._blobs.remove(given - queries.used_of(connection, given, None))
