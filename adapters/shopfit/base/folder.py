"""Reading single files of a base's folder: never one outside of it, never code.

Symbolic links must not leave the folder, except in the Hub's cache, whose snapshots are links to its own blobs
(huggingface_hub's "Understand caching").
"""

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from shopfit.errors import BaseError

TERMS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")
"""Files that say under which terms a base is given, by their names."""
_MOST_SETTINGS = 64 << 20  # bytes of a JSON file of settings
_MOST_TERMS = 1 << 20  # bytes of a file of terms

_REFUSED = {
    "transformers_weights": "it names other weights",
    "configuration_files": "it names other settings",
    "fast_tokenizer_files": "it names other tokenizers",
    "quantization_config": "its weights are quantized already",
    "quantization": "its weights are quantized already, as MLX does",
}
_PLAIN_WEIGHTS = "use the plain weights, and `quantization` in the recipe"
_NEXT = {"quantization_config": _PLAIN_WEIGHTS, "quantization": _PLAIN_WEIGHTS}


def reason(error: BaseException) -> str:
    """The first line of an error's message, and the next ones while it ends in a colon; no unprintable characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    for line in lines[1:3]:
        said += f" {line}" if said.endswith(":") else ""
    return said.encode("utf-8", "backslashreplace").decode()[:500]


def file_in(folder: Path, name: str) -> Path | None:
    """The real path of a file in a base's folder; None if there is none.

    Args:
        folder: of the base.
        name: of the file, relative to the folder.

    Raises:
        BaseError: if it is no file, or is outside of the folder.
    """
    path = folder / name
    if not os.path.lexists(path):
        return None
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BaseError(
            f"{path} is a link to nothing: {reason(error)}", next_step="bring the file that it should be"
        ) from error
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise BaseError(
            f"{path} leads out of its folder, to {real}",
            next_step="copy the file into the folder: a base is read from there alone",
        )
    if not stat.S_ISREG(real.stat().st_mode):
        raise BaseError(f"{path} is no file", next_step="put the file there that the base was saved with")
    return real


def _roots(folder: Path) -> list[Path]:
    """Folders that may hold a base's files: its own; for a snapshot in the Hub's cache also its repository's blobs."""
    real = folder.resolve()
    if real.parent.name == "snapshots" and real.parent.parent.name.startswith("models--"):
        return [real, real.parent.parent / "blobs"]
    return [real]


def copy_terms(folder: Path, other: Path) -> None:
    """Copy the files that say under which terms a base is given; what leads elsewhere is not followed."""
    for path in sorted({path for pattern in TERMS for path in folder.glob(pattern)}):
        with contextlib.suppress(BaseError):
            real = file_in(folder, path.name)
            if real is not None and real.stat().st_size <= _MOST_TERMS:
                (other / path.name).write_bytes(real.read_bytes())


def settings_in(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON object in a base's folder; None if there is none.

    Args:
        folder: of the base.
        name: of the file.

    Raises:
        BaseError: if it is no object, or leads elsewhere.
    """
    path = file_in(folder, name)
    if path is None:
        return None
    found = read_json(path, folder / name)
    if not isinstance(found, dict):
        raise BaseError(
            f"{folder / name} holds a {type(found).__name__} (allowed: an object)", next_step="bring the file again"
        )
    for key, what in _REFUSED.items():
        if found.get(key):
            raise BaseError(
                f"{folder / name} has {key!r}: {what}", next_step=_NEXT.get(key, "save the base with `save_pretrained`")
            )
    return found


def read_json(path: Path, where: Path) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        where: its path in messages.

    Raises:
        BaseError: if it is too large, or is no JSON that can be written as UTF-8.
    """
    if path.stat().st_size > _MOST_SETTINGS:
        raise BaseError(
            f"{where} has {path.stat().st_size} bytes (allowed: {_MOST_SETTINGS})", next_step="bring the file again"
        )
    try:
        found = json.loads(path.read_bytes().decode())
        json.dumps(found, ensure_ascii=False).encode()  # fails for lone surrogates
    except (ValueError, RecursionError) as error:
        raise BaseError(f"{where} is not valid JSON: {reason(error)}", next_step="bring the file again") from error
    return found
