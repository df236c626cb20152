"""Temporary working folders, and their removal after a process that owned one was killed.

The owner holds a lock on its folder. The kernel releases it however the process ends, so a folder that can be locked
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

from shopfit.settings import uploads

STAGING, UNFINISHED, CATALOG_PASS, ROWS = ".staging-", ".unfinished-", "shopfit-catalog-", "shopfit-rows-"
_NOT_YET_OWNED = ".new-"
_OPENING = 3600.0  # seconds after which a folder that was never locked counts as abandoned
_FORGOTTEN = 14 * 24 * 3600.0  # after which nobody goes on with a training
_UNTAKEN = 24 * 3600.0  # after which a file that came through the console is not waited for
_LONGEST_WORK = 24 * 3600.0  # the same on a filesystem without locks


@dataclass(frozen=True, slots=True)
class Space:
    """Number and size of files or folders.

    Args:
        count: number of them.
        bytes: total size.
    """

    count: int = 0
    bytes: int = 0

    def __add__(self, other: "Space") -> "Space":
        return Space(self.count + other.count, self.bytes + other.bytes)


@contextmanager
def owned_folder(parent: Path, prefix: str, *, mode: int = 0o700) -> Iterator[Path]:
    """A context with a new folder, removed at the end unless it was renamed; after a kill, `sweep` removes it.

    Args:
        parent: existing folder to create it in.
        prefix: of its name.
        mode: its permissions, less the umask.

    Raises:
        OSError: if it cannot be created.
    """
    name = f"{prefix}{secrets.token_hex(8)}"
    folder, unowned = parent / name, parent / f"{_NOT_YET_OWNED}{name}"
    unowned.mkdir(mode=mode)  # `sweep` ignores this name, until the folder is locked
    handle = os.open(unowned, os.O_RDONLY)
    try:
        with suppress(OSError):  # without locks, `sweep` goes by age
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unowned.rename(folder)
        yield folder
    finally:
        for left in (unowned, folder):
            shutil.rmtree(left, ignore_errors=True)
        os.close(handle)


def sweep(home: Path, *, dry_run: bool = False) -> Space:
    """Remove abandoned folders under shopfit's home and in the system's folder for temporary files.

    Among them are trainings that were ended two weeks ago and not gone on with, and files that came through the
    console a day ago and were not taken.

    Args:
        home: shopfit's home folder.
        dry_run: only count.

    Returns:
        the folders that were or would be removed.
    """
    found = Space()
    for parent, prefix in (
        (home, STAGING),
        (home / "cache", UNFINISHED),
        (Path(tempfile.gettempdir()), CATALOG_PASS),
        (Path(tempfile.gettempdir()), ROWS),
    ):
        found += sweep_folder(parent, prefix, dry_run=dry_run)
    for run in _runs(home):
        with suppress(OSError):  # another user's, or removed meanwhile
            if max(map(_written, [run, *run.iterdir()])) < time.time() - _FORGOTTEN:
                found += Space(1, remove(run, dry_run=dry_run).bytes)
    return found + sweep_uploads(home, dry_run=dry_run)


def sweep_uploads(home: Path, *, dry_run: bool = False) -> Space:
    """Remove files that came through the console and were not taken within a day; as `sweep`."""
    found = Space()
    with suppress(OSError):  # another user's, or removed meanwhile
        for folder in uploads(home, "").glob("*/*"):
            if _age(folder) > _UNTAKEN:
                found += Space(1, remove(folder, dry_run=dry_run).bytes)
    return found


def sweep_folder(parent: Path, prefix: str, *, dry_run: bool = False) -> Space:
    """Remove abandoned folders in `parent` whose names have the prefix; as `sweep`."""
    found = Space()
    for name in _names(parent, prefix):
        found += _remove_ownerless(parent / name, dry_run)
    for name in _names(parent, f"{_NOT_YET_OWNED}{prefix}"):
        if _age(parent / name) > _OPENING:
            found += remove(parent / name, dry_run=dry_run)
    return found


def remove(path: Path, *, dry_run: bool = False) -> Space:
    """Remove a file or a folder; of a symbolic link only the link.

    Returns:
        how many files were or would be removed, and their bytes.
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
    except OSError:  # removed meanwhile, another user's, or no folder
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


def _runs(home: Path) -> list[Path]:
    """Folders with checkpoints: of each merchant's recipes."""
    try:
        runs = (home / "checkpoints").glob("*/*")
        return [run for run in runs if not (run.is_symlink() or run.parent.is_symlink()) and run.is_dir()]
    except OSError:
        return []


def _written(path: Path) -> float:
    """When it was written, or now if it is gone."""
    return time.time() - _age(path)


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
