"""The blob store: files by the SHA-256 of their content, in a local folder or any fsspec filesystem.

It knows neither versions nor the database. Blobs are the files of adapters, megabytes each, so they are read whole.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Set
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from shopfit.errors import RegistryError
from shopfit.registry.failures import masked, storage_failure
from shopfit.registry.temp_folders import Space
from shopfit.settings import expanded

_URL = re.compile(r"(?:file|local):|[a-z][a-z0-9+.-]*(?:::[a-z][a-z0-9+.-]*)*://", re.ASCII | re.IGNORECASE)
_BLOB = re.compile(r"[0-9a-f]{2}/(?P<digest>[0-9a-f]{64})", re.ASCII)
_UNFINISHED = re.compile(r"unfinished/[0-9a-f]{32}", re.ASCII)
_OWNERS = "owners"
_AT_ONCE = 8  # parallel requests to a remote store
_LONGEST_WRITE = timedelta(hours=1)
_Result = TypeVar("_Result")


class BlobStore:
    """Content-addressed files.

    Args:
        filesystem: fsspec's.
        root: the folder or key prefix that blobs lie under, as `filesystem` writes it.
        address: the store's URL, masked.
    """

    def __init__(self, filesystem: Any, root: str, address: str) -> None:
        from fsspec.implementations.local import LocalFileSystem

        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self.local = isinstance(filesystem, LocalFileSystem)
        self.address = address

    @classmethod
    def open(cls, address: str) -> "BlobStore":
        """Find the filesystem that `address` names. Nothing is read or written yet.

        Args:
            address: a local path, whatever characters it has, or a URL that fsspec knows such as `s3://bucket/prefix`.

        Raises:
            RegistryError: if fsspec does not know the URL's protocol, or its package is not installed.
        """
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        if not _URL.match(address):  # fsspec would take a path with `::` for a chain of filesystems
            return cls(LocalFileSystem(), str(expanded(address).absolute()), address)
        allowed = "a folder, s3://bucket/prefix, gs://bucket/prefix, or another URL that fsspec knows"
        try:
            filesystem, root = url_to_fs(address, use_listings_cache=False)
        except ImportError as error:
            raise RegistryError(
                f"SHOPFIT_BLOBS is {masked(address)!r}, and the package for it is missing: {error}",
                next_step="install it (`pip install 'shopfit[s3]'` for s3://), then run the command again",
            ) from error
        except ValueError as error:
            raise RegistryError(
                f"SHOPFIT_BLOBS is {masked(address)!r} (allowed: {allowed})", next_step="correct SHOPFIT_BLOBS"
            ) from error
        except Exception as error:  # credentials, endpoints: each filesystem raises its own classes
            raise storage_failure(
                f"opening the blob store {masked(address)}", error, variable="SHOPFIT_BLOBS"
            ) from error
        return cls(filesystem, root, masked(address))

    def put(self, content: bytes, digest: str) -> None:
        """Store `content`, whose SHA-256 is `digest`, durably: after this returns, it survives a crash.

        A blob that exists already is not written again, unless it is damaged.

        Raises:
            RegistryError: if the store cannot be written.
        """
        there = self.read(digest) == content
        if self.local:
            self._try("writing to", lambda: _settle(self._root, self._path(digest), None if there else content))
        elif not there:
            self._try("writing to", lambda: self._filesystem.pipe_file(self._path(digest), content))

    def read(self, digest: str) -> bytes | None:
        """The blob of `digest`, not verified; None if there is none.

        Raises:
            RegistryError: if the store cannot be read.
        """

        def read() -> bytes | None:
            try:
                return bytes(self._filesystem.cat_file(self._path(digest)))
            except FileNotFoundError:
                return None

        return self._try("reading from", read)

    def has(self, digest: str) -> bool:
        """Whether there is a blob of `digest`.

        Raises:
            RegistryError: if the store cannot be read.
        """
        return self._try("reading from", lambda: bool(self._filesystem.isfile(self._path(digest))))

    def missing(self, digests: Iterable[str]) -> set[str]:
        """Those digests that have no blob. A remote store gets parallel requests, as a writer waits for this.

        Raises:
            RegistryError: if the store cannot be read.
        """
        asked = sorted(set(digests))
        if self.local:
            return {digest for digest in asked if not self.has(digest)}
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return {digest for digest, there in zip(asked, threads.map(self.has, asked), strict=True) if not there}

    def claim(self, registry: str) -> None:
        """Mark this store as used by a registry.

        Args:
            registry: its id, 32 hex digits.

        Raises:
            RegistryError: if the store cannot be written.
        """
        path = f"{self._root}/{_OWNERS}/{registry}"
        if self.local:
            self._try("writing to", lambda: None if Path(path).exists() else _settle(self._root, path, b""))
        else:
            self._try("writing to", lambda: self._filesystem.pipe_file(path, b""))

    def check_sole(self, registry: str | None) -> None:
        """Check that no other registry uses this store: its blobs would be taken for garbage.

        Args:
            registry: id of the only allowed one; None for a registry that never published.

        Raises:
            RegistryError: if another one uses it, or the store cannot be read.
        """
        folder = f"{self._root}/{_OWNERS}"
        found = self._try("reading from", lambda: [str(path) for path in self._filesystem.find(folder)])
        if others := sorted({path.rpartition("/")[2] for path in found} - {registry}):
            raise RegistryError(
                f"the blob store {self.address} is another registry's, too ({_OWNERS}/{others[0]}), "
                "so what this one does not name may be in use",
                next_step="give each registry a store of its own; if that registry is gone for good, remove its mark",
            )

    def remove(self, digests: Iterable[str]) -> None:
        """Remove blobs; missing ones are ignored.

        Raises:
            RegistryError: if the store cannot be written.
        """
        for digest in digests:
            self._try("cleaning", partial(self._remove, self._path(digest)))

    def remove_stale(self, used: Set[str], before: datetime, *, dry_run: bool = False) -> Space:
        """Remove unused blobs, and temporary files of interrupted writes.

        Args:
            used: digests that stay.
            before: files written later stay too; with time zone. Temporary files stay for an hour in any case.
            dry_run: only count.

        Returns:
            how many files were or would be removed, and their bytes.

        Raises:
            RegistryError: if the store cannot be listed or written.
        """
        return self._try("cleaning", lambda: self._remove_stale(used, before, dry_run))

    def _remove_stale(self, used: Set[str], before: datetime, dry_run: bool) -> Space:
        removed = Space()
        # even without grace, a write in progress is not disturbed
        abandoned = min(before, datetime.now(UTC) - _LONGEST_WRITE)
        for path, facts in self._filesystem.find(self._root, detail=True).items():
            name = path.removeprefix(f"{self._root}/")
            blob = _BLOB.fullmatch(name)
            if blob and blob["digest"] not in used:
                old = self._older(path, before)
            else:
                old = _UNFINISHED.fullmatch(name) is not None and self._older(path, abandoned)
            if old and (dry_run or self._remove(path)):
                removed += Space(1, int(facts.get("size") or 0))
        return removed

    def _older(self, path: str, before: datetime) -> bool:
        try:
            modified: datetime = self._filesystem.modified(path)
        except FileNotFoundError:  # renamed or removed by another process
            return False
        return (modified if modified.tzinfo else modified.replace(tzinfo=UTC)) < before

    def _remove(self, path: str) -> bool:
        try:
            self._filesystem.rm_file(path)
        except FileNotFoundError:
            return False
        return True

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _try(self, doing: str, action: Callable[[], _Result]) -> _Result:
        try:
            return action()
        except Exception as error:  # object stores raise their own classes
            raise storage_failure(f"{doing} the blob store {self.address}", error, variable="SHOPFIT_BLOBS") from error


def _settle(root: str, path: str, content: bytes | None) -> None:
    """Write `content`, if any, and fsync the folders on its path.

    Even an existing blob needs that, as another process may be writing it right now.
    """
    target = Path(path)
    if content is not None:
        _write(target, content, Path(root) / "unfinished" / secrets.token_hex(16))
    _sync(target.parent)
    _sync(Path(root))


def _write(target: Path, content: bytes, unfinished: Path) -> None:
    """Write a temporary file, fsync it, and rename it to its place."""
    _make_folder(unfinished.parent)
    _make_folder(target.parent)
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
