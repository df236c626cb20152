"""Selects the files of a base's folder that loading reads, and checks them before anything is loaded.

Weights are `model.safetensors`, or else the files that `model.safetensors.index.json` names, as in transformers. All
files must be inside the folder. Symbolic links must not leave it, except in the Hub's cache, whose snapshots are links
to its own blobs (huggingface_hub's "Understand caching").
"""

import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from shopfit.base.pooling import Pooling, saved_pooling
from shopfit.errors import BaseError, Problem

CONFIG = "config.json"
SETTINGS = (
    CONFIG,
    "generation_config.json",  # the tokens that end an answer
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""JSON files that model and tokenizer are made from."""
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "sentencepiece.bpe.model",
    "spm.model",
    "bpe.codes",
)
"""Files of which a tokenizer has at least one."""
TEMPLATE = "chat_template.jinja"

BUFFERS = ("position_ids", "token_type_ids", "attn.bias", "attention.bias", "masked_bias", "inv_freq")
"""Name endings of buffers in old checkpoints, which the model computes itself."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MOST_SETTINGS = 64 << 20  # bytes of a JSON file of settings
_MOST_VOCABULARY = 1 << 30
_SHOWN = 10  # names in a message

_REFUSED = {
    "auto_map": "it names code of its own, which is not run",
    "transformers_weights": "it names other weights",
    "configuration_files": "it names other settings",
    "fast_tokenizer_files": "it names other tokenizers",
    "quantization_config": "its weights are quantized already",
}
_NEXT = {
    "auto_map": "take the entry out, if transformers itself reads this base; else use another one",
    "quantization_config": "use the plain weights, and `quantization` in the recipe",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor in a file of weights.

    Args:
        name: of the tensor.
        shape: as in the header.
        dtype: such as "F32".
        path: of the file.
        start: its first byte in the file.
        end: the byte behind its last one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Path
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a base's folder that loading reads.

    Args:
        folder: of the base.
        config: content of config.json.
        files: settings, vocabularies and chat template, by name.
        weights: files of weights, in the order of their names.
        pieces: every tensor in them, by name.
        pooling: that the files of sentence-transformers ask for; None if there are none.
    """

    folder: Path
    config: Mapping[str, Any]
    files: Mapping[str, Path]
    weights: tuple[Path, ...]
    pieces: tuple[Piece, ...]
    pooling: Pooling | None = None

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Check a base's folder.

        Args:
            folder: holds config.json, safetensors weights and a tokenizer.

        Raises:
            BaseError: if a file is missing, damaged or outside of the folder; naming it and why.
        """
        try:
            return cls._open(folder)
        except (OSError, ValueError) as error:  # an invalid path raises ValueError
            raise BaseError(
                f"the base in {str(folder)!r} cannot be read: {reason(error)}",
                next_step="check that the folder and every file in it can be read",
            ) from error

    @classmethod
    def _open(cls, folder: Path) -> "Checkpoint":
        weights = _weights(folder)
        config = _settings(folder, CONFIG)
        if config is None:
            raise BaseError(
                f"{folder} holds no {CONFIG}", next_step="point to a folder written by transformers' `save_pretrained`"
            )
        for name in SETTINGS[1:]:
            _settings(folder, name)
        pooling = saved_pooling(folder, partial(_json, folder))
        if _file(folder, "adapter_config.json") is not None:
            raise BaseError(
                f"{folder} holds an adapter_config.json: transformers would load that adapter into the base",
                next_step="move the adapter out, or merge it and save the result as a base",
            )
        names = (*SETTINGS, *VOCABULARIES, TEMPLATE)
        files = {name: path for name in names if (path := _file(folder, name)) is not None}
        if not files.keys() & set(VOCABULARIES):
            raise BaseError(f"{folder} holds no tokenizer", next_step=f"add one of {', '.join(VOCABULARIES)}")
        for name, path in files.items():
            if name not in SETTINGS and not 0 < path.stat().st_size <= _MOST_VOCABULARY:
                raise BaseError(
                    f"{folder / name} has {path.stat().st_size} bytes (allowed: 1 to {_MOST_VOCABULARY})",
                    next_step="bring the file again",
                )
        pieces = sorted((piece for path in weights for piece in read_pieces(path)), key=lambda piece: piece.name)
        _check_pieces(folder, pieces)
        return cls(folder, config, files, weights, tuple(pieces), pooling)

    @contextmanager
    def alone(self) -> Iterator[Path]:
        """A temporary folder with the checked files only, for transformers to load from.

        Raises:
            BaseError: if a file has changed meanwhile.
        """
        before = self._state()
        with tempfile.TemporaryDirectory(prefix="shopfit-base-") as temporary:
            shown = Path(temporary)
            for name, path in self.files.items():
                (shown / name).symlink_to(path)
            if len(self.weights) == 1:
                (shown / _WEIGHTS).symlink_to(self.weights[0])
            else:
                places = {path: f"model-{number:05}.safetensors" for number, path in enumerate(self.weights, start=1)}
                for path, place in places.items():
                    (shown / place).symlink_to(path)
                index = {"metadata": {}, "weight_map": {piece.name: places[piece.path] for piece in self.pieces}}
                (shown / _INDEX).write_text(json.dumps(index), encoding="utf-8")
            yield shown
        if self._state() != before:
            raise BaseError(
                f"the base in {self.folder} was changed while it was loaded",
                next_step="wait until it is written, and load it again",
            )

    def _state(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in (*self.files.values(), *self.weights)]
        return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


def reason(error: BaseException) -> str:
    """The first line of an error's message, without unprintable characters."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    return said.encode("utf-8", "backslashreplace").decode()[:500]


def _file(folder: Path, name: str) -> Path | None:
    """The real path of a file in a base's folder; None if there is none.

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


def _settings(folder: Path, name: str) -> dict[str, Any] | None:
    """A JSON object in a base's folder; None if there is none."""
    path = _file(folder, name)
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


def _json(folder: Path, name: str) -> Any:
    path = _file(folder, name)
    return None if path is None else read_json(path, folder / name)


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


def _weights(folder: Path) -> tuple[Path, ...]:
    """The files of weights that transformers would load."""
    single = _file(folder, _WEIGHTS)
    if single is not None:
        return (single,)
    index = _settings(folder, _INDEX)
    if index is None:
        raise BaseError(
            f"{folder} holds no safetensors weights ({_WEIGHTS}, or {_INDEX} and what it names)",
            next_step="shopfit loads safetensors only; convert the base with transformers' `save_pretrained`",
        )
    named = index.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(place, str) for place in named.values()):
        raise BaseError(f"{folder / _INDEX} has no weight_map from tensors to files", next_step="bring the file again")
    found = {place: _shard(folder, place) for place in sorted(set(named.values()))}
    there = {(piece.name, path) for path in set(found.values()) for piece in read_pieces(path)}
    problems = [
        Problem(name, f"{found[place].name} does not hold it")
        for name, place in named.items()
        if (name, found[place]) not in there
    ]
    wanted = {(name, found[place]) for name, place in named.items()}
    problems += [Problem(name, f"{path.name} holds it, the index does not name it") for name, path in there - wanted]
    if problems:
        raise BaseError(
            f"{folder / _INDEX} is not the index of its files",
            problems=sorted(problems, key=str),
            next_step="bring index and weights again",
        )
    return tuple(found.values())


def _shard(folder: Path, place: str) -> Path:
    parts = PurePosixPath(place).parts
    if not parts or place.startswith("/") or ".." in parts or "\\" in place or not place.endswith(".safetensors"):
        raise BaseError(
            f"{folder / _INDEX} names {place!r} (allowed: a .safetensors file in the folder)",
            next_step="bring the index that the weights were saved with",
        )
    path = _file(folder, place)
    if path is None:
        raise BaseError(f"{folder / _INDEX} names {place!r}, which is not there", next_step="bring the missing file")
    return path


def read_pieces(path: Path) -> list[Piece]:
    """Every tensor in a file of weights. The format is 8 bytes of header length, the header, the data.

    safetensors' own reader checks lengths, types, shapes and offsets, but not duplicate names.

    Raises:
        BaseError: if it is not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=partial(_once, path))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise damaged(path, reason(error)) from error
    return [
        Piece(name, tuple(entry["shape"]), entry["dtype"], path, *(8 + length + at for at in entry["data_offsets"]))
        for name, entry in header.items()
        if name != "__metadata__"
    ]


def damaged(path: Path, why: str) -> BaseError:
    """The error for a damaged file of weights."""
    return BaseError(
        f"{path} is not a whole safetensors file: {why}",
        next_step="bring the file again: it was cut short, or altered",
    )


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = [ascii(name[:100]) for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        more = f" and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
        raise BaseError(f"{path} names {', '.join(twice[:_SHOWN])}{more} twice", next_step="bring the file again")
    return found


def _check_pieces(folder: Path, pieces: list[Piece]) -> None:
    if not pieces:
        raise BaseError(f"the weights in {folder} are empty", next_step="bring the weights again")
    problems = [
        Problem(piece.name, f"is in {piece.path.name} and in {other.path.name}")
        for piece, other in pairwise(pieces)
        if piece.name == other.name
    ]
    problems += [
        Problem(piece.name, f"has numbers of type {piece.dtype}", ", ".join(sorted(_FLOATS)))
        for piece in pieces
        if piece.dtype not in _FLOATS and not piece.name.endswith(BUFFERS)
    ]
    if problems:
        raise BaseError(
            f"the weights in {folder} are no plain weights of a model",
            problems=problems,
            next_step="use the plain weights; quantize with `quantization` in the recipe",
        )
