"""What nothing names any more, in the blob store and on this machine."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from shopfit.registry.leavings import Space, remove, sweep
from shopfit.registry.registry import Registry
from shopfit.settings import Settings

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What went, or would.

    Args:
        blobs: files in the blob store that no version names, and those of writes that were broken off.
        cache: of this machine's cache, the versions that are in the registry no more.
        leavings: folders that killed processes left on this machine.
    """

    blobs: Space
    cache: Space
    leavings: Space


def collect(registry: Registry, settings: Settings, *, grace: timedelta, dry_run: bool = False) -> Garbage:
    """Remove garbage.

    Args:
        registry: its blob store must be its own.
        settings: of this machine.
        grace: younger blobs stay, for they may be of a version that is being published.
        dry_run: only look.

    Raises:
        RegistryError: if the registry or its blobs cannot be written.
    """
    return Garbage(
        registry.collect_garbage(grace=grace, dry_run=dry_run),
        _sweep_cache(registry, settings.cache, dry_run),
        sweep(settings.home, dry_run=dry_run),
    )


def _sweep_cache(registry: Registry, cache: Path, dry_run: bool) -> Space:
    # looked at before the registry, so that what is published meanwhile is not taken for gone
    there = [path for path in cache.iterdir() if _DIGEST.fullmatch(path.name)] if cache.is_dir() else []
    known = registry.digests()
    gone = [remove(path, dry_run=dry_run) for path in there if path.name not in known]
    return Space(len(gone), sum(space.bytes for space in gone))
