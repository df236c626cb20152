"""The identity of a base: SHA-256 over everything that loading it reads.

Tensors are hashed by name, so that their order and sharding do not matter; settings that a library writes about itself
are left out. The legacy rule hashed less: config.json, one vocabulary and all weights of the folder. Old bundles name a
base by its legacy fingerprint, so that one is computed too (docs/explanation/how-a-base-is-read.md).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shopfit.base.checkpoint import SETTINGS, Checkpoint
from shopfit.base.folder import read_json
from shopfit.base.profile import PLAIN, Profile
from shopfit.base.tensor_files import Piece, damaged, read_pieces
from shopfit.errors import BaseError

_ABOUT_ITSELF = {"transformers_version", "_name_or_path", "torch_dtype", "dtype"}
_ABOUT_TOKENIZERS = {"name_or_path", "is_local", "local_files_only"}
_OLD_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt")
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Identity:
    """The fingerprints of a base.

    Args:
        fingerprint: SHA-256 (hex) over everything that loading reads.
        legacy: the same by the legacy rule; empty if that gives none.
    """

    fingerprint: str
    legacy: str = ""


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over the base in `folder`.

    Args:
        folder: holds config.json, safetensors weights and a tokenizer.

    Raises:
        BaseError: if a file is missing, damaged or outside of the folder.
    """
    return identify(Checkpoint.open(folder)).fingerprint


def identify(checkpoint: Checkpoint) -> Identity:
    """Both fingerprints of a base. The weights are read once.

    Args:
        checkpoint: the base's files, checked.

    Raises:
        BaseError: if they cannot be read.
    """
    core = _core(checkpoint, checkpoint.pieces)
    digest = hashlib.sha256(b"shopfit base 2\0")
    digest.update(core.encode())
    for name, path in sorted(checkpoint.files.items()):
        digest.update(f"\0{name}\0{_digest(name, path)}".encode())
    profile = checkpoint.profile
    if said := _reading(profile):
        digest.update(said.encode())
        return Identity(digest.hexdigest())  # by the legacy rule every base was read plainly: none is this one
    return Identity(digest.hexdigest(), _legacy(checkpoint, core))


def _reading(profile: Profile) -> str:
    """How vectors are made of texts, where it is not the plain way; what languages they are in changes no vector."""
    said = ""
    if profile.pooling != PLAIN.pooling:
        said += f"\0pooling\0{profile.pooling.mode}"
    if (profile.query, profile.passage) != (PLAIN.query, PLAIN.passage):
        said += f"\0prompts\0{profile.query}\0{profile.passage}"
    if profile.floor is not None:
        said += f"\0floor\0{profile.floor}"
    return said


def _digest(name: str, path: Path) -> str:
    if name in SETTINGS:
        said = read_json(path, path)
        kept = {key: value for key, value in said.items() if key not in _ABOUT_ITSELF | _ABOUT_TOKENIZERS}
        return hashlib.sha256(_canonical(kept)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _legacy(checkpoint: Checkpoint, core: str) -> str:
    """By the legacy rule, which hashed every safetensors file of the folder, loaded or not."""
    if not any(name in checkpoint.files for name in _OLD_VOCABULARIES):
        return ""
    every = {path.resolve() for path in checkpoint.folder.glob("*.safetensors")}
    if every == set(checkpoint.weights):
        return core
    try:
        return _core(checkpoint, [piece for path in sorted(every) for piece in read_pieces(path)])
    except BaseError:  # a file that is not loaded is no reason to refuse the base
        return ""


def _core(checkpoint: Checkpoint, pieces: Iterable[Piece]) -> str:
    digest = hashlib.sha256()
    digest.update(_canonical({key: value for key, value in checkpoint.config.items() if key not in _ABOUT_ITSELF}))
    vocabulary = next((checkpoint.files[name] for name in _OLD_VOCABULARIES if name in checkpoint.files), None)
    if vocabulary is not None:
        digest.update(vocabulary.read_bytes())
    for piece in sorted(pieces, key=lambda piece: (piece.name, str(list(piece.shape)), piece.dtype, piece.path)):
        digest.update(f"{piece.name}\0{list(piece.shape)}\0{piece.dtype}\0".encode())
        _hash_piece(piece, digest)
    return digest.hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _hash_piece(piece: Piece, digest: "hashlib._Hash") -> None:
    with piece.path.open("rb") as file:
        file.seek(piece.start)
        left = piece.end - piece.start
        while left and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    if left:
        raise damaged(piece.path, "it ends too early")
