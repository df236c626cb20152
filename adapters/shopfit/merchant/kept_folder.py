"""A merchant's folder under SHOPFIT_HOME: where data that came through the console lie, and labels that people gave."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shopfit.errors import DataError
from shopfit.merchant.merchant import DESCRIPTION, Merchant, is_language
from shopfit.recipe.names import HOUSE, SLUG_RULE, is_slug
from shopfit.recipe.shipped import sample_folder
from shopfit.settings import merchant_folder


def find_merchant(home: Path, name: str) -> Merchant | None:
    """The merchant whose data are kept, or the sample merchant of that name; None if there is neither.

    Raises:
        DataError: if its folder is not valid.
    """
    if not is_slug(name):
        return None
    own = merchant_folder(home, name)
    folder = own if own.is_dir() else sample_folder(name)
    return None if folder is None else Merchant.open(folder)


def kept_merchant(home: Path, name: str, *, language: str = "en", description: str = "") -> Merchant:
    """The merchant's folder to write to: the one that is kept, a copy of the sample's, or a new one.

    Args:
        home: SHOPFIT_HOME.
        name: of the merchant.
        language: of a new one: a tag such as en or zh.
        description: of a new one: what the shop sells, in one line.

    Raises:
        DataError: if the name cannot be a merchant's, another argument is not valid, or nothing can be written.
    """
    if not is_slug(name) or name == HOUSE:
        raise DataError(f"{name[:80]!r} cannot be a merchant's name (allowed: {SLUG_RULE})", next_step="choose another")
    own = merchant_folder(home, name)
    if own.is_dir():
        return Merchant.open(own)
    if language and not is_language(language):
        raise DataError(
            f"{language[:40]!r} is not the code of a language",
            next_step="give a code such as en (English), zh (Chinese), de (German), fr (French) or pt-BR",
        )
    try:
        own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=own.parent, prefix=".") as staged:
            new = Path(staged) / name
            if (sample := sample_folder(name)) is not None:
                shutil.copytree(sample, new)
            else:
                new.mkdir()
                told = {"name": name, "language": language, "description": description}
                lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items() if value]
                (new / DESCRIPTION).write_text("\n".join(lines) + "\n", encoding="utf-8")
            Merchant.open(new)  # raises what is wrong with it
            new.rename(own)
    except OSError as error:
        raise DataError(f"{own} cannot be written: {error.strerror}", next_step="let this user write there") from error
    return Merchant.open(own)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and the content of all files of a merchant's folder, which tells whether its data changed.

    Raises:
        DataError: if they cannot be read.
    """
    said = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            said.update(f"{path.relative_to(folder)}\0".encode("utf-8", "surrogateescape") + content)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}", next_step="let this user read there") from error
    return said.hexdigest()


def write_rows(merchant: Merchant, file: str, rows: Sequence[Mapping[str, Any]], *, append: bool = False) -> None:
    """Write a file of rows of a merchant, as JSON lines; it is the old one or the new one whole, whatever happens.

    Args:
        merchant: whose kept folder it is.
        file: its name, such as `reviews.jsonl`.
        rows: as plain JSON.
        append: to those that are there, rather than in their place.

    Raises:
        DataError: if it cannot be written.
    """
    path = merchant.folder / file
    before = path.read_bytes() if append and path.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    _write(merchant, path, before + text.encode())


def take_back(merchant: Merchant, file: str, known: Mapping[str, Any]) -> bool:
    """Take the last row that has some values out of a file; the other rows stay as they are written.

    Args:
        merchant: whose kept folder it is.
        file: its name; it goes with its only row.
        known: names and values of the row.

    Returns:
        whether there was such a row.

    Raises:
        DataError: if the file cannot be written.
    """
    path = merchant.folder / file
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for place in reversed(range(len(lines))):
        if _has(lines[place], known):
            rest = lines[:place] + lines[place + 1 :]
            if any(line.strip() for line in rest):
                _write(merchant, path, b"".join(rest))
            else:
                path.unlink()
            return True
    return False


def _has(line: bytes, known: Mapping[str, Any]) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and all(row.get(name) == value for name, value in known.items())


def _write(merchant: Merchant, path: Path, content: bytes) -> None:
    """Put a file in the place of the one that is there, whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=merchant.folder, prefix=".", delete=False) as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        Path(new.name).replace(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror}", next_step="free some space, then try again"
        ) from error
