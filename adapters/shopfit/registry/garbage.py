"""Removes unreferenced files in the blob store and on this machine."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from shopfit.registry.registry import Registry
from shopfit.registry.temp_folders import Space, remove, sweep
from shopfit.settings import Settings, packed_digests, packed_files

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What was removed, or would be.

    Args:
        blobs: files in the blob store that no version uses, and temporary files of interrupted writes.
        cache: versions in this machine's cache that are no longer in the registry, packed or not.
        leavings: folders that killed processes left on this machine.
    """

    blobs: Space
    cache: Space
    leavings: Space


def collect(registry: Registry, settings: Settings, *, grace: timedelta, dry_run: bool = False) -> Garbage:
    """Remove garbage.

    Args:
        registry: its blob store must have no other registry.
        settings: of this machine.
        grace: younger blobs stay, as they may be of a version that is being published.
        dry_run: only count.

    Raises:
        RegistryError: if the registry or its blobs cannot be written.
    """
    return Garbage(
        registry.collect_garbage(grace=grace, dry_run=dry_run),
        _sweep_cache(registry, settings.cache, dry_run),
        sweep(settings.home, dry_run=dry_run),
    )


def _sweep_cache(registry: Registry, cache: Path, dry_run: bool) -> Space:
    # listed before the registry, so that a version published meanwhile is not removed
    there = [path for path in cache.iterdir() if _DIGEST.fullmatch(path.name)] if cache.is_dir() else []
    packed = packed_digests(cache)
    known = registry.digests()
    gone = [path for path in there if path.name not in known] + packed_files(cache, packed - known)
    spaces = [remove(path, dry_run=dry_run) for path in gone]
    return Space(len(gone), sum(space.bytes for space in spaces))
