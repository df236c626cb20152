"""Safe reading of a bundle's files: no links or pipes, and a size limit for each kind of file."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath

from shopfit.errors import BundleError

_LONGEST_LINE = 4 * 1024**2  # bytes of a line in catalog.jsonl and history.jsonl
_WEIGHTS, _OTHERS = 4 * 1024**3, 64 * 1024**2
_LARGEST = {
    "bundle.json": 32 * 1024**2,  # the ids of 600,000 examples
    "blend.json": 16 * 1024**2,  # counts of 300,000 items
    "adapter_config.json": 4 * 1024**2,  # AdaLoRA lists every singular value
    "head.safetensors": 256 * 1024**2,
    "norm_scales.safetensors": 256 * 1024**2,  # a number an output of a layer
    "catalog.jsonl": 1024 * 1024**2,
    "history.jsonl": 1024 * 1024**2,
}
_AGAIN = "bring the bundle again, or train it again"


def check_size(path: str | Path, size: int) -> None:
    """Refuse a file above the size limit of its kind, before it is read.

    Args:
        path: in a bundle, or on disk; the kind follows from its name.
        size: in bytes.

    Raises:
        BundleError: if it is above the limit.
    """
    name = PurePosixPath(path).name
    most = _LARGEST.get(name, _WEIGHTS if name.endswith(".safetensors") else _OTHERS)
    if size > most:
        raise BundleError(f"{path} has {size} bytes (allowed: {most})", next_step=_AGAIN)


def lines(content: bytes, path: str) -> Iterator[bytes]:
    """The lines of a file with an item a line, lazily.

    Args:
        content: of the file.
        path: of it, for messages.

    Raises:
        BundleError: if one is above the limit for an item.
    """
    for number, line in enumerate(BytesIO(content), start=1):
        if len(line) > _LONGEST_LINE:
            raise BundleError(
                f"{path} has {len(line)} bytes in line {number} (allowed: {_LONGEST_LINE})", next_step=_AGAIN
            )
        yield line.removesuffix(b"\n")


def read_file(path: Path) -> bytes | None:
    """The content of a plain file; None if there is none.

    Raises:
        BundleError: if it is a link or a pipe, is above the size limit of its kind, or cannot be read.
    """
    try:
        with _plain_file(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def file_digest(path: Path) -> str:
    """SHA-256 of a plain file.

    Raises:
        BundleError: as for `read_file`, and if there is no such file.
    """
    try:
        with _plain_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing", next_step=_AGAIN) from error


@contextmanager
def _plain_file(path: Path) -> Iterator[BufferedReader]:
    """Open a file that is no link, without blocking if it is a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise not_plain(path)
            check_size(path, found.st_size)
            yield file
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a link, a folder, or an invalid file name
        if isinstance(error, OSError) and error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise not_plain(path) from error
        raise BundleError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def not_plain(path: Path) -> BundleError:
    """The error for a link, a pipe or a device."""
    return BundleError(f"{path} is not a plain file", next_step="a bundle holds plain files and folders only")
