"""A merchant's files: the one way in which any of them is opened, and none that lies outside its folder.

Links inside the folder may lead to other places inside it, and the folder itself may be reached by one. The path is
resolved first; what is opened then is opened folder by folder without following a link, so that a link that is put
there in between leads nowhere.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shopfit.errors import DataError
from shopfit.recipe.suggestions import did_you_mean, shown

LARGEST = 1024**3  # bytes of a file

_CLOSED = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_FILE = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV}


@dataclass(frozen=True, slots=True)
class MerchantFile:
    """A file, or a folder, of a merchant.

    Args:
        folder: the merchant's.
        name: path inside it.
        encoding: in which its text is written, where it is text.
    """

    folder: Path
    name: str
    encoding: str = "utf-8"

    @classmethod
    def at(cls, path: Path) -> "MerchantFile":
        """A file that stands for itself: its merchant's folder is the one it lies in."""
        return cls(path.parent, path.name)

    def __str__(self) -> str:
        return str(self.folder / self.name)

    @property
    def suffix(self) -> str:
        """Of its name, with the dot."""
        return Path(self.name).suffix

    def __truediv__(self, name: str) -> "MerchantFile":
        return MerchantFile(self.folder, f"{self.name}/{name}", self.encoding)

    def resolved(self) -> Path:
        """Where it lies, links followed; it need not be there.

        Raises:
            DataError: if that is outside the merchant's folder.
        """
        root, real = self._places()
        if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
            raise DataError(
                f"{self} leads out of the merchant's folder {self.folder}",
                next_step="copy what it leads to into the folder; nothing outside of it is read",
            )
        return Path(real)

    def exists(self) -> bool:
        """Whether something is there, of whatever kind; a link that leads nowhere is something."""
        try:
            os.lstat(os.path.join(self.folder, self.name))  # noqa: PTH118 - `/` would lose `name/.`
        except (OSError, ValueError):
            return False
        return True

    def is_folder(self) -> bool:
        """Whether it is a folder.

        Raises:
            DataError: if it lies outside the merchant's folder.
        """
        return os.path.isdir(self.resolved())  # noqa: PTH112 - False, too, where it may not be looked at

    def open(self) -> BinaryIO:
        """Open it to be read.

        Raises:
            DataError: if it is missing, lies outside the merchant's folder, cannot be read, or is no file.
        """
        root, real = self._places()[0], self.resolved()
        try:
            handle = _open_inside(root, real.relative_to(root).parts)
        except FileNotFoundError:
            raise self.missing() from None
        except OSError as error:
            no_file = error.errno in _NO_FILE
            raise DataError(
                f"{self} is not a file" if no_file else f"{self} cannot be read: {error.strerror}",
                next_step="put a plain file there" if no_file else "make it readable",
            ) from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # a pipe or a device would never end
            os.close(handle)
            raise DataError(f"{self} is not a file", next_step="put a plain file there")
        return os.fdopen(handle, "rb")

    def read(self, largest: int = LARGEST) -> bytes:
        """Its content.

        Args:
            largest: bytes that it may have.

        Raises:
            DataError: as `open`, or if it is larger.
        """
        with self.open() as file:
            try:
                content = file.read(largest + 1) if os.fstat(file.fileno()).st_size <= largest else None
            except OSError as error:
                raise DataError(f"{self} cannot be read: {error.strerror}", next_step="make it readable") from None
        if content is None or len(content) > largest:
            raise DataError(
                f"{self} is too large (allowed: at most {in_bytes(largest)})", next_step="split it, or leave rows out"
            )
        return content

    def missing(self) -> DataError:
        """What is to be said if it is not there."""
        path = Path(str(self))
        try:
            names = [near.name for near in path.parent.iterdir()] if self.resolved().parent.is_dir() else []
        except OSError:
            names = []
        return DataError(
            f"there is no file {self}{did_you_mean(path.name, names)}",
            next_step="put it there, or name another one in the recipe's `data` section",
        )

    def _places(self) -> tuple[str, str]:
        """The real paths of the merchant's folder and of the file."""
        try:
            root = os.path.realpath(self.folder)
            return root, os.path.realpath(os.path.join(root, self.name))  # noqa: PTH118 - as the system joins them
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(self.name)} cannot be a file's name: {error}") from None


def in_bytes(size: int) -> str:
    """A size in words."""
    unit = next(number for number in (30, 20, 10) if size >= 1 << number or number == 10)
    return f"{size / (1 << unit):.4g} {dict(zip((30, 20, 10), ('GiB', 'MiB', 'KiB'), strict=True))[unit]}"


def _open_inside(root: str, parts: tuple[str, ...]) -> int:
    """A handle of a file, no part of whose path is a link at the moment it is opened."""
    above = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, _CLOSED | os.O_DIRECTORY, dir_fd=above)
            os.close(above)
            above = below
        return os.open(parts[-1] if parts else ".", _CLOSED | os.O_NONBLOCK, dir_fd=above)
    finally:
        os.close(above)
