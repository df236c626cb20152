"""Downloads a version's bundle from the blob store to a local cache, and verifies it.

Neither the database nor the store is trusted: paths are checked by a pattern, every file by its SHA-256, and the whole
by the bundle's digest.
"""

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, bundle_digest, parse_manifest
from shopfit.adapter.safe_reading import check_size, read_file
from shopfit.errors import BundleError, Problem
from shopfit.registry.blobs import BlobStore
from shopfit.registry.failures import storage_failure
from shopfit.registry.queries import File
from shopfit.registry.temp_folders import UNFINISHED, owned_folder, sweep_folder
from shopfit.registry.version import Version

PATH_RULE = (
    "a-z, A-Z, 0-9, '.', '_' and '-', in folders parted by '/', no name starting with '.', 255 characters at most"
)
_PATH = re.compile(r"(?=.{1,255}\Z)(?!\.)[A-Za-z0-9._-]+(?:/(?!\.)[A-Za-z0-9._-]+)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NEXT_STEP = (
    "put the blob back from a backup, or train and publish the adapter again; "
    "until then, roll back to a version that `shopfit registry verify` finds intact"
)


def is_path(path: str) -> bool:
    """Whether `path` may be a file of a bundle: it must not lead outside of the bundle's folder."""
    return _PATH.fullmatch(path) is not None


def problems(version: Version, files: Sequence[File], blobs: BlobStore) -> list[Problem]:
    """All problems of the stored files of `version`; reads all of its blobs.

    Raises:
        RegistryError: if the blob store cannot be read.
    """
    found = [found for file in files if isinstance(found := _content(file, blobs), Problem)]
    if bundle_digest({file.path: file.sha256 for file in files}) != version.digest:
        found.append(Problem(version.name, "its list of files is not the one that was published"))
    return found


def read(
    version: Version,
    files: Sequence[File],
    needed: Callable[[Collection[str]], Collection[str]],
    blobs: BlobStore,
    cache: Path | None = None,
) -> HeldBundle:
    """Read files of `version` into memory. The verified bytes are returned: nothing is read again afterwards.

    Args:
        version: what to read.
        files: all of the version's.
        needed: all paths -> those to read, `bundle.json` among them.
        blobs: the store of their content.
        cache: folder of downloads from a remote store; its files are verified, and downloaded again if damaged.

    Raises:
        BundleError: if stored files are damaged.
        RegistryError: if the store cannot be read, or the cache cannot be written.
    """
    if bundle_digest({file.path: file.sha256 for file in files}) != version.digest:
        raise _damaged(version, [Problem(version.name, "its list of files is not the one that was published")])
    wanted = needed([file.path for file in files])
    chosen = [file for file in files if file.path in wanted]
    contents = None
    if cache is not None:
        contents = _cached(version, chosen, cache)
        if contents is None:
            fetch(version, cache, files, blobs)
            contents = _cached(version, chosen, cache)
    if contents is None:
        contents = {file.path: content for file, content in _checked(version, chosen, blobs)}
    manifest = parse_manifest(contents[MANIFEST], version.name)
    if (manifest.merchant, manifest.recipe) != (version.merchant, version.recipe):
        raise _damaged(version, [Problem(MANIFEST, f"is of {manifest.reference}")])
    return HeldBundle(manifest, contents)


def kept(
    version: Version, contents: Mapping[str, bytes], needed: Callable[[Collection[str]], Collection[str]]
) -> HeldBundle | None:
    """The bundle of `version` from files that were kept of it; neither the database nor the store is asked.

    Args:
        version: whose digest says what they must be.
        contents: of the files, `bundle.json` among them.
        needed: the paths of all files -> those that must be there.

    Returns:
        None if one is missing, or is not what was published.
    """
    if MANIFEST not in contents:
        return None
    found = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    try:
        manifest = parse_manifest(contents[MANIFEST], version.name)
    except BundleError:
        return None
    files = manifest.files | {MANIFEST: found[MANIFEST]}
    if bundle_digest(files) != version.digest or found != {path: files[path] for path in needed(files)}:
        return None
    owner = (manifest.merchant, manifest.recipe)
    return HeldBundle(manifest, contents) if owner == (version.merchant, version.recipe) else None


def fetch(version: Version, cache: Path, files: Sequence[File], blobs: BlobStore) -> Bundle:
    """The bundle of `version` in `cache/<digest>/`; an existing one is re-hashed, and replaced if damaged.

    Args:
        version: to download.
        cache: folder, created if necessary; processes may share it.
        files: all of the version's.
        blobs: the store of their content.

    Raises:
        BundleError: if stored files of the version are damaged.
        RegistryError: if the store cannot be read, or the cache cannot be written.
    """
    if not _DIGEST.fullmatch(version.digest):
        raise _damaged(version, [Problem("digest", repr(version.digest), "64 of 0-9 and a-f")])
    target = cache / version.digest
    try:
        if bundle := _intact(target, version):
            return bundle
        cache.mkdir(parents=True, exist_ok=True)
        sweep_folder(cache, UNFINISHED)
        with owned_folder(cache, UNFINISHED, mode=0o777) as unfinished:
            for file, content in _checked(version, files, blobs):
                path = unfinished / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if not _intact(unfinished, version):
                what = "its files do not make up the bundle that was published"
                raise _damaged(version, [Problem(version.name, what)])
            return _settle(unfinished, target, version)
    except (OSError, ValueError) as error:  # a null character in the folder's name is a ValueError
        raise storage_failure(f"writing to the cache {cache}", error, variable="SHOPFIT_HOME") from error


def _settle(unfinished: Path, target: Path, version: Version) -> Bundle:
    """Rename `unfinished` to `target`; a damaged one there is replaced, an intact one (from another process) stays."""
    for _ in range(10):
        try:
            unfinished.rename(target)
        except OSError:
            if not target.exists():
                raise
        if bundle := _intact(target, version):
            return bundle
        discarded = unfinished.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        with suppress(FileNotFoundError):  # another process removed it
            target.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)
    raise _damaged(version, [Problem(str(target), "other processes keep changing it")])


def _cached(version: Version, files: Sequence[File], cache: Path) -> dict[str, bytes] | None:
    """Files from the cache; None if one of them is missing or damaged."""
    contents = {}
    for file in files:
        if not is_path(file.path):
            return None
        try:
            content = read_file(cache / version.digest / file.path)
        except BundleError:
            return None
        if content is None or hashlib.sha256(content).hexdigest() != file.sha256:
            return None
        contents[file.path] = content
    return contents


def _checked(version: Version, files: Sequence[File], blobs: BlobStore) -> Iterator[tuple[File, bytes]]:
    for file in files:
        content = _content(file, blobs)
        if isinstance(content, Problem):
            raise _damaged(version, [content])
        yield file, content


def _content(file: File, blobs: BlobStore) -> bytes | Problem:
    """The verified content of `file`, or the problem with it."""
    if not is_path(file.path):
        return Problem(repr(file.path), "is not a path inside a bundle", PATH_RULE)
    if not _DIGEST.fullmatch(file.sha256):
        return Problem(file.path, f"{file.sha256!r} is not the name of a blob", "64 of 0-9 and a-f")
    try:
        check_size(file.path, file.size)
    except BundleError as error:
        return Problem("its list of files", error.message)
    content = blobs.read(file.sha256)
    if content is None:
        return Problem(file.path, f"its blob {file.sha256} is missing")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        return Problem(file.path, f"the content of its blob {file.sha256} has changed")
    return content


def _intact(folder: Path, version: Version) -> Bundle | None:
    """The bundle in `folder` if it is, to the byte, the one published as `version`."""
    if not folder.is_dir():
        return None
    try:
        bundle = Bundle.open(folder)
    except BundleError:
        return None
    owner = (bundle.manifest.merchant, bundle.manifest.recipe)
    return bundle if bundle.digest == version.digest and owner == (version.merchant, version.recipe) else None


def _damaged(version: Version, found: list[Problem]) -> BundleError:
    return BundleError(f"the bundle of {version.name} in the registry is damaged", problems=found, next_step=_NEXT_STEP)
