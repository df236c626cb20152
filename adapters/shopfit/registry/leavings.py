"""Folders that something is made in, and what is left of them when the process that owned one was killed.

An owner holds a lock on its folder. The kernel lets go of it however the process ends, so a folder that can be locked
has no owner.
"""

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STAGING, UNFINISHED, CATALOG_PASS = ".staging-", ".unfinished-", "shopfit-catalog-"
_NOT_YET_OWNED = ".new-"
_OPENING = 3600.0  # seconds after which a folder that never got an owner is left over
_LONGEST_WORK = 24 * 3600.0  # the same, where the filesystem knows no locks


@dataclass(frozen=True, slots=True)
class Space:
    """Files or folders, and what they take.

    Args:
        count: how many.
        bytes: of all of them.
    """

    count: int = 0
    bytes: int = 0

    def __add__(self, other: "Space") -> "Space":
        return Space(self.count + other.count, self.bytes + other.bytes)


@contextmanager
def owned_folder(parent: Path, prefix: str, *, mode: int = 0o700) -> Iterator[Path]:
    """A new folder, gone afterwards unless it was renamed; `sweep` removes it if this process is killed.

    Args:
        parent: where it is made; it is there.
        prefix: its name starts with.
        mode: who may enter it, as far as the user's mask allows.

    Raises:
        OSError: if it cannot be made.
    """
    name = f"{prefix}{secrets.token_hex(8)}"
    folder, unowned = parent / name, parent / f"{_NOT_YET_OWNED}{name}"
    unowned.mkdir(mode=mode)  # under a name that is not swept, until it is locked
    handle = os.open(unowned, os.O_RDONLY)
    try:
        with suppress(OSError):  # without locks its age decides
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unowned.rename(folder)
        yield folder
    finally:
        for left in (unowned, folder):
            shutil.rmtree(left, ignore_errors=True)
        os.close(handle)


def sweep(home: Path, *, dry_run: bool = False) -> Space:
    """Remove what killed processes left under shopfit's home, and in the system's folder for temporary files.

    Args:
        home: shopfit's home folder.
        dry_run: only look.

    Returns:
        the folders that went, or would.
    """
    found = Space()
    for parent, prefix in (
        (home, STAGING),
        (home / "cache", UNFINISHED),
        (Path(tempfile.gettempdir()), CATALOG_PASS),
    ):
        found += sweep_folder(parent, prefix, dry_run=dry_run)
    return found


def sweep_folder(parent: Path, prefix: str, *, dry_run: bool = False) -> Space:
    """The same in one folder."""
    found = Space()
    for name in _names(parent, prefix):
        found += _remove_ownerless(parent / name, dry_run)
    for name in _names(parent, f"{_NOT_YET_OWNED}{prefix}"):
        if _age(parent / name) > _OPENING:
            found += remove(parent / name, dry_run=dry_run)
    return found


def remove(path: Path, *, dry_run: bool = False) -> Space:
    """Remove a file or a folder; a symbolic link goes, and what it leads to stays.

    Returns:
        how many files went, or would, and their bytes.
    """
    space = _space(path)
    if dry_run:
        return space
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    left = _space(path)
    return Space(space.count - left.count, space.bytes - left.bytes)


def _remove_ownerless(folder: Path, dry_run: bool) -> Space:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone, another user's, or no folder
        return Space()
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Space()
        except OSError:  # a filesystem without locks
            if _age(folder) < _LONGEST_WORK:
                return Space()
        return Space(1, remove(folder, dry_run=dry_run).bytes)
    finally:
        os.close(handle)


def _names(parent: Path, prefix: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(parent) if name.startswith(prefix))  # noqa: PTH208 - no glob: of any name
    except OSError:
        return []


def _age(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0


def _space(path: Path) -> Space:
    space = Space()
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    for one in inside:
        with suppress(OSError):
            if one.is_symlink() or not one.is_dir():
                space += Space(1, one.lstat().st_size)
    return space
