"""Files that were brought through the console and not taken yet: each for the key that brought it alone, for a day."""

import json
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from shopfit.errors import DataError
from shopfit.merchant.brought import Kind
from shopfit.merchant.encodings import is_binary
from shopfit.recipe.names import is_slug
from shopfit.registry.temp_folders import sweep_uploads
from shopfit.serve.console.routes import NoPage
from shopfit.settings import uploads

_ABOUT = "upload.json"
_MOST = 12  # of a merchant; the oldest go first
_LONGEST_NAME = 120  # characters that are kept of what the client calls it
_OTHERS: Mapping[tuple[bytes, ...], str] = {
    (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*"): "a picture",
    (b"%PDF",): "a PDF",
    (b"\x1f\x8b",): "a compressed file",
}
_ZIP, _PARQUET, _OLD_EXCEL = b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that waits to be taken.

    Args:
        id: of it.
        merchant: whose it will be.
        recipe: that it is for.
        kind: what it holds.
        key: id of the key that brought it.
        shown: what the client called it.
        file: its name in the folder, which the client has no say in.
        folder: that it lies in, alone.
    """

    id: str
    merchant: str
    recipe: str
    kind: Kind
    key: str
    shown: str
    file: str
    folder: Path

    def discard(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def keep_upload(home: Path, merchant: str, recipe: str, kind: str, key: str, shown: str, content: bytes) -> Upload:
    """Keep a file until it is taken, or for a day; the same one, brought twice by a key, is kept once.

    Args:
        home: SHOPFIT_HOME.
        merchant: whose it will be; a slug.
        recipe: that it is for.
        kind: what it holds.
        key: id of the key that brings it.
        shown: what the client calls it; empty for rows that were pasted.
        content: of it.

    Raises:
        DataError: if it is of a kind that is not read, or cannot be written.
    """
    if kind not in get_args(Kind):
        raise NoPage("there is no such kind of file", next_step="go back to the start")
    if not content.strip():
        raise DataError("there is nothing in it", next_step="choose a file that has rows, or paste some")
    suffix = _suffix(content)
    sweep_uploads(home)
    place = uploads(home, merchant)
    if (known := _same(place, merchant, recipe, kind, key, _named(shown), content)) is not None:
        return known
    id_ = secrets.token_hex(16)
    upload = Upload(id_, merchant, recipe, kind, key, _named(shown), f"content{suffix}", place / id_)  # type: ignore[arg-type]
    try:
        place.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (place.parent, place):
            folder.mkdir(exist_ok=True, mode=0o700)
        for old in _by_age(place)[: 1 - _MOST]:
            shutil.rmtree(old, ignore_errors=True)
        upload.folder.mkdir(mode=0o700)
        (upload.folder / upload.file).write_bytes(content)
        about = {**asdict(upload), "folder": ""}
        (upload.folder / _ABOUT).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"the file cannot be kept: {error.strerror}", next_step="free some space, then try again"
        ) from error
    return upload


def find_upload(home: Path, merchant: str, recipe: str, id_: str, key: str) -> Upload:
    """A file that a key has brought.

    Raises:
        NoPage: if there is none of that id, whoever may have brought it.
    """
    sweep_uploads(home)
    if is_slug(merchant) and is_slug(id_):
        found = _kept(uploads(home, merchant) / id_)
        if found is not None and (found.merchant, found.recipe, found.key) == (merchant, recipe, key):
            return found
    raise NoPage(
        "there is no such file, or not for this key; it was taken already, or is more than a day old",
        next_step="bring it once more",
    )


def _kept(folder: Path) -> Upload | None:
    with suppress(OSError, ValueError, TypeError):
        return replace(Upload(**json.loads((folder / _ABOUT).read_bytes())), folder=folder)
    return None


def _same(place: Path, merchant: str, recipe: str, kind: str, key: str, shown: str, content: bytes) -> Upload | None:
    """The same file, if this key has brought it already for the same and it waits still."""
    wanted = (merchant, recipe, kind, key, shown)
    for folder in reversed(_by_age(place)) if place.is_dir() else ():
        found = _kept(folder)
        if found is not None and (found.merchant, found.recipe, found.kind, found.key, found.shown) == wanted:
            with suppress(OSError):
                if (folder / found.file).read_bytes() == content:
                    return found
    return None


def _by_age(place: Path) -> list[Path]:
    return sorted(place.iterdir(), key=lambda one: one.stat().st_mtime)


def _suffix(content: bytes) -> str:
    """What a file is, by its content: what it is called says nothing that can be relied on."""
    if content.startswith(_PARQUET):
        return ".parquet"
    if content.startswith((_ZIP, _OLD_EXCEL)):
        raise DataError(
            "this is a workbook or an archive, and no table",
            next_step="save the sheet as CSV (UTF-8) and bring that, or unpack it first",
        )
    if is_binary(content):
        kind = next((kind for signs, kind in _OTHERS.items() if content.startswith(signs)), "a binary file")
        raise DataError(
            f"this is {kind}, and no table of rows",
            next_step="bring a CSV file, JSON lines or Parquet, or paste the rows",
        )
    begins = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return ".jsonl" if begins in (b"{", b"[") else ".csv"


def _named(shown: str) -> str:
    return "".join(sign for sign in shown.rpartition("/")[2] if sign.isprintable())[:_LONGEST_NAME]
