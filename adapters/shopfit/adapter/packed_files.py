"""Adapters on local disk as their slots hold them, so that loading one a second time is one read.

A file is named by the bundle's digest, the base and the layout of its slots. Its first line has a checksum of the rest;
the header says digest, layout and sizes again, so that a file which is cut, damaged or another's is noticed, and made
anew. It has the bundle's other files too, which are verified by the digest as ever. The weights were verified when
they were packed; from then on this folder is trusted as the process's own memory is.

    cache/packed/<digest>-<layout>          an adapter
    cache/packed/<digest>-<layout>.<hex>    one that is being written
"""

import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from shopfit.settings import packed_digests, packed_files

logger = logging.getLogger(__name__)

_FIRST = "shopfit-packed-1"  # another number for another form
_LINE = len(f"{_FIRST} {'0' * 32} {'0' * 12}\n")
_LONGEST_WRITE = 3600.0  # seconds
_PAUSE = 60.0  # seconds without writing, after one that failed
_NOT_ITS_OWN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError)
_PART = 16  # of the limit: written between looks at the whole folder, and made free by one


@dataclass(frozen=True, slots=True, eq=False)
class PackedFile:
    """What is kept of an adapter.

    Args:
        rank: of its weights.
        weights: the bytes of `Packed.flat`, and of `Packed.beyond` if it has that.
        contents: of the bundle's files besides the weights, by path.
    """

    rank: int
    weights: tuple[memoryview, ...]
    contents: Mapping[str, bytes]


class PackedFiles:
    """The packed adapters in a cache folder. Thread-safe; processes may share the folder.

    Nothing is raised if the folder cannot be read or written: then adapters are loaded from their bundles.

    Args:
        cache: folder of a machine's caches, such as `Settings.cache`.
        layout: names a base and the layout of its slots: files of others are not read.
        limit: bytes at most; the least recently used go first.
    """

    def __init__(self, cache: Path, layout: str, limit: int) -> None:
        self._folder = cache / "packed"
        self._layout = layout
        self._limit = limit
        self._known: set[str] = set()
        self._unlooked = limit  # bytes written since the last look; the first write looks
        self._again = 0.0  # time.monotonic() from which on to write
        self._lock = threading.Lock()

    def __contains__(self, digest: str) -> bool:
        """Whether this process wrote or read the file of a bundle, and did not remove it since."""
        return digest in self._known

    def read(self, digest: str) -> PackedFile | None:
        """What was kept of a bundle; None if there is nothing, or it is not what was written.

        Args:
            digest: of the bundle.
        """
        try:
            with FileIO(self._path(digest), "rb", opener=_opened) as file:
                found = _read(file, digest, self._layout)
                with suppress(OSError):
                    os.utime(file.fileno())  # used just now
        except FileNotFoundError:
            self._known.discard(digest)
            return None
        except _NOT_ITS_OWN as error:
            logger.info("a packed adapter is made anew, since %s: %s", self._path(digest), error)
            return None
        self._known.add(digest)
        return found

    def write(self, digest: str, kept: PackedFile) -> None:
        """Keep an adapter, in one step.

        Args:
            digest: of the bundle.
            kept: of it, verified.
        """
        head, size = _head(digest, self._layout, kept)
        if size > self._limit or time.monotonic() < self._again:
            return
        path = self._path(digest)
        unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            try:
                with FileIO(unfinished, "xb") as file:
                    for part in _parts(head, kept):
                        _write(file, part)
                self._known.add(digest)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._again = time.monotonic() + _PAUSE
            logger.warning("adapters are loaded slowly, since %s cannot be written: %s", self._folder, error.strerror)

    def remove(self, digest: str) -> None:
        """Remove what is kept of a bundle, of all layouts."""
        self._known.discard(digest)
        for path in packed_files(self._folder.parent, [digest]):
            with suppress(OSError):
                path.unlink()

    def sweep(self, known: Callable[[], Set[str]]) -> None:
        """Remove what is kept of bundles that are gone.

        Args:
            known: the digests of all that are there; asked after the folder was listed.
        """
        there = packed_digests(self._folder.parent)
        for digest in there - known() if there else ():
            self.remove(digest)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}-{self._layout}"

    def _make_room(self, size: int) -> None:
        """See to the limit. The folder is looked at only when a part of the limit was written."""
        part = self._limit // _PART
        with self._lock:
            self._unlooked += size
            if self._unlooked <= part:
                return
            self._unlooked = 0
            files = []
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # removed by another process
                        facts = entry.stat(follow_symlinks=False)
                        files.append((facts.st_mtime, facts.st_size, entry.name))
            now, left = time.time(), sum(size for _, size, _ in files) + size
            for used, bytes_, name in sorted(files):
                abandoned = "." in name and now - used > _LONGEST_WRITE
                if abandoned or left > self._limit - part:
                    (self._folder / name).unlink(missing_ok=True)
                    self._known.discard(name.partition("-")[0])
                    left -= bytes_


def _head(digest: str, layout: str, kept: PackedFile) -> tuple[bytes, int]:
    """The first line and the header, and the size of the whole file."""
    header = {
        "digest": digest,
        "layout": layout,
        "rank": kept.rank,
        "contents": {path: len(content) for path, content in kept.contents.items()},
        "weights": [part.nbytes for part in kept.weights],
    }
    said = json.dumps(header).encode()
    parts = _parts(said, kept)
    head = f"{_FIRST} {_checksum(parts)} {len(said):012}\n".encode() + said
    return head, len(head) + sum(len(part) for part in parts[1:])


def _parts(said: bytes, kept: PackedFile) -> list[bytes | memoryview]:
    return [said, *kept.contents.values(), *kept.weights]


def _opened(path: str, _: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(file: FileIO, digest: str, layout: str) -> PackedFile:
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is no plain file")
    first, wanted, length = bytes(_take(file, _LINE, facts.st_size)).decode("ascii").split()
    if first != _FIRST:
        raise ValueError("it has another form")
    said = bytes(_take(file, int(length), facts.st_size))
    header: dict[str, Any] = json.loads(said)
    if (header["digest"], header["layout"]) != (digest, layout):
        raise ValueError("it is of another bundle, or for another base")
    sizes = [*header["contents"].values(), *header["weights"]]
    if min(sizes) < 0 or _LINE + len(said) + sum(sizes) != facts.st_size:
        raise ValueError("it is cut")
    contents = {path: bytes(_take(file, size, facts.st_size)) for path, size in header["contents"].items()}
    weights = tuple(_take(file, size, facts.st_size) for size in header["weights"])
    kept = PackedFile(header["rank"], weights, contents)
    if _checksum(_parts(said, kept)) != wanted:
        raise ValueError("it is damaged")
    return kept


def _take(file: FileIO, size: int, most: int) -> memoryview:
    """The next bytes, in memory of their own: a mapped file that is cut meanwhile would end the process."""
    if not 0 <= size <= most:
        raise ValueError("it is cut")
    into = rest = np.empty(size, np.uint8).data  # numpy asks the kernel for huge pages
    while rest:
        got = file.readinto(rest)
        if not got:
            raise ValueError("it is cut")
        rest = rest[got:]
    return into


def _write(file: FileIO, part: bytes | memoryview) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[file.write(rest) :]


def _checksum(parts: Iterable[bytes | memoryview]) -> str:
    sum_ = xxhash.xxh3_128()
    for part in parts:
        sum_.update(part)
    return sum_.hexdigest()
