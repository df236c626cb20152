"""The identity of a base: SHA-256 over its weights, config and tokenizer.

Tensors are hashed by name, so that how a library orders or shards them does not matter; of the config, what a library
writes about itself is left out.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from shopfit.errors import BaseError

_NOT_IDENTITY = {"transformers_version", "_name_or_path", "torch_dtype", "dtype"}
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt")


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over the base in `folder`.

    Args:
        folder: holds config.json, safetensors weights and a tokenizer.

    Raises:
        BaseError: if one of them is missing, or the weights are not safetensors.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BaseError(
            f"{folder} holds no safetensors weights",
            next_step="shopfit loads safetensors only; convert the base with transformers' `save_pretrained`",
        )
    if not (folder / "config.json").is_file():
        raise BaseError(
            f"{folder} holds no config.json", next_step="point to a folder written by transformers' `save_pretrained`"
        )
    digest = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    digest.update(_canonical({key: value for key, value in config.items() if key not in _NOT_IDENTITY}))
    tokenizer = next((folder / name for name in _TOKENIZERS if (folder / name).is_file()), None)
    if tokenizer is None:
        raise BaseError(f"{folder} holds no tokenizer", next_step=f"add one of {', '.join(_TOKENIZERS)}")
    digest.update(tokenizer.read_bytes())
    tensors = sorted(
        (name, shape, dtype, path, start, end) for path in weights for name, shape, dtype, start, end in _tensors(path)
    )
    for name, shape, dtype, path, start, end in tensors:
        digest.update(f"{name}\0{shape}\0{dtype}\0".encode())
        with path.open("rb") as file:
            _hash_range(file, start, end, digest)
    return digest.hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _tensors(path: Path) -> Iterator[tuple[str, str, str, int, int]]:
    """Name, shape, type and byte range of each tensor; the format is 8 bytes of header length, the header, the data."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield name, str(entry["shape"]), entry["dtype"], 8 + length + start, 8 + length + end


def _hash_range(file: BinaryIO, start: int, end: int, digest: "hashlib._Hash") -> None:
    file.seek(start)
    while start < end:
        block = file.read(min(end - start, 1 << 22))
        digest.update(block)
        start += len(block)
