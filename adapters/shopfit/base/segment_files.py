"""Segments of merchants' items on disk: safetensors files that are mapped, so that processes share what one has made.

A file never changes and is named by its content; it gets its name when it is whole. One that is cut, altered or of
another encoder's making is not used, and what it held is made again. Each merchant has a folder of its own: no file
serves two, and erasing a merchant removes its folder.
"""

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopfit.merchant.segments import MOST_SMALL, SMALL, Segment

logger = logging.getLogger(__name__)

_KIND = "shopfit segment 2"
_ENDING, _HALF = ".safetensors", ".half-"
_STALE = 3600.0  # seconds after which a half-written file is of a process that was killed
_OFF = 1e-2  # what the length of a vector may differ from 1 by
_DTYPES = {"U64": "<u8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1"}
_KINDS = {
    "keys": "U64",
    "vectors": "F32",
    "lengths": "I32",
    "terms": "U8",
    "starts": "I64",
    "rows": "I32",
    "counts": "I32",
}


class SegmentFiles:
    """The kept segments of one merchant and one encoder. Any thread or process may use them at any time.

    Args:
        folder: of the merchant's, below one with a folder for each merchant.
        encoder: what the vectors depend on besides the text: no other encoder's are used.
        width: D, numbers of a vector.
        most: bytes of all merchants' files; beyond that, those that were not used for the longest are removed.
    """

    def __init__(self, folder: Path, encoder: str, width: int, most: int) -> None:
        self.folder = folder
        self._encoder = hashlib.sha256(f"{_KIND}\0{encoder}".encode()).hexdigest()  # of another kind are other files
        self._width = width
        self._most = most

    def open(self, known: Iterable[Segment] = ()) -> list[Segment]:
        """Every segment that is whole, mapped; those of `known` are not read again."""
        there = {segment.path for segment in known}
        found = []
        for path in self._paths():
            if path in there:
                continue
            segment = self._read(path)
            if segment is not None:
                found.append(segment)
        return found

    def add(self, segment: Segment) -> Segment:
        """Write a segment of one or more texts.

        Returns:
            it, mapped; or as it is, where the folder is gone (the merchant was erased) or cannot be written.
        """
        kept = self._write(segment)
        if kept is None:
            return segment
        self._join_small()
        self._shrink()
        return kept

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._encoder[:16]}-*{_ENDING}"))

    def _read(self, path: Path) -> Segment | None:
        try:
            segment = _mapped(path, self._encoder, self._width)
            os.utime(path)  # it is used: others go first
        except FileNotFoundError:  # joined, or let go, by another process
            return None
        except OSError as error:
            logger.warning("%s could not be read: %s", path, error)
            return None
        except ValueError as error:
            logger.warning("%s is damaged and is made anew: %s", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        return segment

    def _write(self, segment: Segment) -> Segment | None:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        half = self.folder / f"{_HALF}{secrets.token_hex(8)}"
        arrays = {name: np.ascontiguousarray(part) for name, part in _arrays(segment).items()}
        digest = _digest(arrays)
        path = self.folder / f"{self._encoder[:16]}-{digest[:32]}{_ENDING}"
        try:
            save_file(arrays, half, {"kind": _KIND, "encoder": self._encoder, "digest": digest})
            half.replace(path)
            return _mapped(path, self._encoder, self._width)
        except (OSError, SafetensorError, ValueError) as error:
            if self.folder.is_dir():
                logger.warning("an index could not be kept in %s: %s", self.folder, error)
            return None
        finally:
            with suppress(OSError):
                half.unlink(missing_ok=True)

    def _join_small(self) -> None:
        """Make one segment of many small ones."""
        paths = self._paths()
        if len(paths) <= MOST_SMALL:
            return
        small = [one for path in paths if (one := self._read(path)) is not None and len(one) < SMALL]
        if len(small) > MOST_SMALL and self._write(Segment.join(small)) is not None:
            for segment in small:
                with suppress(OSError):
                    (segment.path or self.folder / "").unlink()  # other processes keep what they have mapped

    def _shrink(self) -> None:
        """Remove what killed processes left half-written, and what was not used for the longest, of any merchant, until
        the rest is small enough.
        """
        for half in self.folder.parent.glob(f"*/{_HALF}*"):
            with suppress(OSError):
                if half.stat().st_mtime < time.time() - _STALE:
                    half.unlink()
        files = []
        for path in self.folder.parent.glob(f"*/*{_ENDING}"):
            with suppress(OSError):
                known = path.stat()
                files.append((known.st_mtime, known.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._most:
                break
            with suppress(OSError):
                path.unlink()
            total -= size


def _arrays(segment: Segment) -> dict[str, NDArray[Any]]:
    terms = np.frombuffer("\n".join(segment.terms).encode(), np.uint8)
    parts = {name: getattr(segment, name) for name in _KINDS if name != "terms"}
    return {name: np.asarray(part, _DTYPES[_KINDS[name]]) for name, part in {**parts, "terms": terms}.items()}


def _digest(arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) over the arrays, by name."""
    digest = hashlib.sha256()
    for name in _KINDS:
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(arrays[name].data if arrays[name].size else b"")
    return digest.hexdigest()


def _mapped(path: Path, encoder: str, width: int) -> Segment:
    """Map a file and check all of it.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not what `SegmentFiles` wrote for this encoder.
    """
    arrays, metadata = _parts(path)
    if metadata.get("kind") != _KIND or metadata.get("encoder") != encoder:
        raise ValueError("it is of another kind")
    if metadata.get("digest") != _digest(arrays):
        raise ValueError("its content has changed")
    terms = bytes(arrays.pop("terms")).decode()
    segment = Segment(terms=terms.split("\n") if terms else [], path=path, **arrays)
    texts, words, postings = len(segment.keys), len(segment.terms), len(segment.rows)
    shapes = (texts, 2), (texts, width), (texts,), (words + 1,), (postings,), (postings,)
    if tuple(part.shape for part in arrays.values()) != shapes:
        raise ValueError("its parts do not fit each other")
    _check_numbers(segment)
    return segment


def _check_numbers(segment: Segment) -> None:
    lengths = np.einsum("rd,rd->r", segment.vectors, segment.vectors)
    if segment.vectors.shape[1] and not (np.abs(lengths - 1) < _OFF).all():  # nor is it where one is not finite
        raise ValueError("a vector in it is not of length 1")
    starts, rows = segment.starts, segment.rows
    ordered = starts[0] == 0 and starts[-1] == len(rows) and (np.diff(starts) >= 0).all()
    if not ordered or (len(rows) and (rows.min() < 0 or rows.max() >= len(segment))):
        raise ValueError("its words are not those of its texts")


def _parts(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays of a file, mapped, and what it says of itself."""
    from safetensors import SafetensorError, safe_open

    from shopfit.base.tensor_files import read_pieces
    from shopfit.errors import BaseError

    path.stat()  # safetensors says in other words that a file is not there
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        pieces = {piece.name: piece for piece in read_pieces(path)}
    except (SafetensorError, BaseError) as error:
        raise ValueError(str(error)) from error
    if {name: piece.dtype for name, piece in pieces.items()} != _KINDS:
        raise ValueError("it holds something else")
    whole = np.memmap(path, np.uint8, "r")
    found: dict[str, NDArray[Any]] = {}
    for name, dtype in _KINDS.items():
        piece = pieces[name]
        part: NDArray[Any] = np.asarray(whole[piece.start : piece.end]).view(_DTYPES[dtype])
        found[name] = part.reshape(piece.shape)
    return found, metadata
