"""The files that hold a base's weights: safetensors alone, and exactly those that the index names.

Weights are `model.safetensors`, or else the files that `model.safetensors.index.json` names, as in transformers.
"""

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from shopfit.base.folder import file_in, reason, settings_in
from shopfit.errors import BaseError, Problem

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BUFFERS = ("position_ids", "token_type_ids", "attn.bias", "attention.bias", "masked_bias", "inv_freq")
"""Name endings of buffers in old checkpoints, which the model computes itself."""

_FLOATS = {"F64", "F32", "F16", "BF16"}
_SHOWN = 10  # names in a message

_CONVERT = "load it with transformers on a machine where you trust that file, and write it with `save_pretrained`"
_SOURCE = "use the base that it was exported from: its repository has config.json and safetensors"
_FOREIGN = (
    ("*.onnx", "an ONNX export, which no adapter fits into", _SOURCE),
    ("openvino_*.xml", "an OpenVINO export, which no adapter fits into", _SOURCE),
    ("*.mlpackage", "a Core ML export, which no adapter fits into", _SOURCE),
    ("*.tflite", "a TensorFlow Lite export, which no adapter fits into", _SOURCE),
    ("*.h5", "weights of TensorFlow", "take a revision of the base with safetensors: transformers reads no other"),
    ("*.msgpack", "weights of Flax", "take a revision of the base with safetensors: transformers reads no other"),
    ("saved_model.pb", "a TensorFlow export, which no adapter fits into", _SOURCE),
    ("*.npz", "weights of MLX", "take the base as transformers saves it, not its MLX conversion"),
    *(
        (f"*.{ending}", "pickled weights, which are not read: unpickling a file can run code in it", _CONVERT)
        for ending in ("bin", "pt", "pth", "ckpt", "pkl")
    ),
)
"""Pattern, what such a file is, and the way out."""


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


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The files of weights that transformers would load.

    Args:
        folder: of the base.

    Raises:
        BaseError: if there are none, or the index is not that of its files.
    """
    single = file_in(folder, WEIGHTS)
    if single is not None:
        return (single,)
    index = settings_in(folder, INDEX)
    if index is None:
        raise _no_weights(folder)
    named = index.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(place, str) for place in named.values()):
        raise BaseError(f"{folder / INDEX} has no weight_map from tensors to files", next_step="bring the file again")
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
            f"{folder / INDEX} is not the index of its files",
            problems=sorted(problems, key=str),
            next_step="bring index and weights again",
        )
    return tuple(found.values())


def _no_weights(folder: Path) -> BaseError:
    """The error for a folder without safetensors weights, by what it holds in their place."""
    if not folder.is_dir():
        return BaseError(f"there is no folder {folder}", next_step="give an existing folder")
    for pattern, what, way_out in _FOREIGN:
        found = next((path for at in ("", "*/") for path in folder.glob(at + pattern)), None)
        if found is not None:
            return BaseError(
                f"{folder} holds {what} ({found.relative_to(folder)}), and no safetensors weights", next_step=way_out
            )
    return BaseError(
        f"{folder} holds no safetensors weights ({WEIGHTS}, or {INDEX} and what it names)",
        next_step="shopfit loads safetensors only; convert the base with transformers' `save_pretrained`",
    )


def _shard(folder: Path, place: str) -> Path:
    parts = PurePosixPath(place).parts
    if not parts or place.startswith("/") or ".." in parts or "\\" in place or not place.endswith(".safetensors"):
        raise BaseError(
            f"{folder / INDEX} names {place!r} (allowed: a .safetensors file in the folder)",
            next_step="bring the index that the weights were saved with",
        )
    path = file_in(folder, place)
    if path is None:
        raise BaseError(f"{folder / INDEX} names {place!r}, which is not there", next_step="bring the missing file")
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


def check_pieces(folder: Path, pieces: list[Piece]) -> None:
    """Refuse tensors that are no plain weights of a model.

    Args:
        folder: of the base.
        pieces: its tensors, by name.

    Raises:
        BaseError: naming them.
    """
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
