"""Parquet files and folders of `datasets`, unpacked by `columnar` in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from shopfit.merchant import columnar
from shopfit.merchant.files import LARGEST, MerchantFile, in_bytes
from shopfit.merchant.limits import Limits, TooMuch
from shopfit.recipe.suggestions import shown

_LARGEST_STATE = 1024**2  # bytes
_AT_ONCE = 64  # files that are open
_MOST_FILES = 4096
_PARQUET = b"PAR1"
_WIDEST = 4  # bytes a character

Bad = tuple[str, str]
"""What is wrong with a row, and what is allowed."""


class Unreadable(Exception):  # noqa: N818 - reads as what it is
    """Nothing more of a file can be read.

    Args:
        what: why.
        allowed: what can be.
        part: of a folder, which file; with what stands before it.
    """

    def __init__(self, what: str, allowed: str = "", part: str = "") -> None:
        super().__init__(what)
        self.what, self.allowed, self.part = what, allowed, part


def unpack(file: MerchantFile, limits: Limits) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
    """The rows of a Parquet file or a folder of `datasets`, each with its number from 1.

    Args:
        file: or folder.
        limits: how much it may hold.

    Raises:
        Unreadable: if it is damaged, not what it says, or takes too much memory.
        TooMuch: if it unpacks to too much.
        DataError: if it, or a file it names, lies outside the merchant's folder or cannot be opened.
    """
    task: dict[str, Any] = {"kind": "parquet", "name": "Parquet", "columns": None, "limits": asdict(limits)}
    files, about = [file], None
    if file.is_folder():
        names, columns = _parts(file)
        task |= {"kind": "arrow", "name": "Arrow", "columns": columns}
        files, about = [file / name for name in names], file / "dataset_info.json"
    before, left = 0, _Allowance(limits)
    for start in range(0, len(files), _AT_ONCE):
        number = 0
        with ExitStack() as stack:
            opened = [stack.enter_context(each.open()) for each in files[start : start + _AT_ONCE]]
            noted = None if about is None else stack.enter_context(about.open())
            for number, row in _rows_of(task, opened, noted, left):
                yield before + number, row
        before += number


class _Allowance:
    """How many bytes are still to come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.left = limits.unpacked
        self.line = _WIDEST * limits.row

    def opened(self, size: int) -> None:
        if size > LARGEST:
            raise TooMuch("is too large", f"at most {in_bytes(LARGEST)}; split it, or leave rows out")
        self.left = min(LARGEST, self.left + self._limits.packed * size)

    def take(self, line: bytes) -> None:
        self.left -= len(line)
        if len(line) > self.line:
            raise TooMuch(f"has a row of more than {in_bytes(self.line)}", f"at most {in_bytes(self.line)} a row")
        if self.left < 0:
            most = f"at most {in_bytes(self._limits.unpacked)} and {self._limits.packed} times its size"
            raise TooMuch("unpacks to more than a file of its size may hold", most)


def _rows_of(
    task: dict[str, Any], files: Sequence[IO[bytes]], about: IO[bytes] | None, left: _Allowance
) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
    handles = [file.fileno() for file in files]
    for handle in handles:
        size = os.fstat(handle).st_size
        if not size:
            raise Unreadable("is empty")
        ends = os.pread(handle, 4, 0), os.pread(handle, 4, max(0, size - 4))
        if task["kind"] == "parquet" and ends != (_PARQUET, _PARQUET):
            raise Unreadable("is not Parquet")
        left.opened(size)
    noted = None if about is None else about.fileno()
    task = task | {"about": noted, "limits": task["limits"] | {"bytes": left.left}}
    # -P: what lies beside that file must not pass for modules of other packages
    command = [sys.executable, "-P", str(Path(columnar.__file__)), json.dumps(task), *map(str, handles)]
    passed = handles if noted is None else [*handles, noted]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=passed) as process:
        assert process.stdout is not None
        try:
            while (line := process.stdout.readline(left.line + 1)) != b'["end"]\n':
                if not line.endswith(b"\n") and len(line) <= left.line:
                    raise Unreadable("is damaged, or takes too much to unpack", f"at most {in_bytes(_memory(task))}")
                left.take(line)
                number, row, *allowed = json.loads(line)
                if number is None:
                    raise Unreadable(row, *allowed)
                yield number, (row, *allowed) if allowed else row
        finally:
            process.kill()


def _memory(task: dict[str, Any]) -> int:
    return int(task["limits"]["memory"])


def _parts(folder: MerchantFile) -> tuple[list[str], list[str] | None]:
    """The data files of a folder of `datasets`, and the columns it shows; None for all."""
    if (folder / "dataset_dict.json").exists():
        place = folder.resolved()
        splits = sorted(part.name for part in place.iterdir() if part.is_dir())
        raise Unreadable("holds several splits", " or ".join(f"{folder.name}/{name}" for name in splits))
    if not (folder / "dataset_info.json").exists():
        raise Unreadable("is a folder that `datasets` did not write", "a file, or what `save_to_disk` writes")
    state = _state(folder / "state.json")
    files, names = state.get("_data_files"), []
    if not isinstance(files, list) or not files or len(files) > _MOST_FILES:
        raise _bad_state("_data_files", files)
    for entry in files:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _is_plain(name) or name in names:
            raise _bad_state("_data_files", name if isinstance(name, str) else entry)
        names.append(name)
    if indices := state.get("_indices_data_files"):
        raise _bad_state("_indices_data_files", indices)
    columns = state.get("_format_columns")
    if state.get("_output_all_columns") or columns is None:
        return names, None
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise _bad_state("_format_columns", columns)
    return names, columns


def _is_plain(name: str) -> bool:
    return name.endswith(".arrow") and name.isprintable() and not set(name) & set('/\\:*?"<>|')


def _state(file: MerchantFile) -> dict[str, Any]:
    if not file.exists():
        raise Unreadable("is a dataset without its state.json", "what `save_to_disk` writes")
    try:
        state = json.loads(file.read(_LARGEST_STATE).decode())
    except (ValueError, RecursionError):
        raise Unreadable("is not JSON", "what `save_to_disk` writes", "/state.json") from None
    if not isinstance(state, dict):
        raise Unreadable("is not an object", "what `save_to_disk` writes", "/state.json")
    return state


def _bad_state(key: str, value: Any) -> Unreadable:
    allowed = {
        "_data_files": "names of .arrow files in that folder, each once",
        "_format_columns": "names of columns",
        "_indices_data_files": "none; save the dataset again",
    }[key]
    return Unreadable(f"{shown(value)} is not accepted", allowed, f"/state.json {key}")
