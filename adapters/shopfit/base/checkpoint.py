"""Selects the files of a base's folder that loading reads, and checks them before anything is loaded."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from shopfit.base.folder import file_in, read_json, reason, settings_in
from shopfit.base.profile import PLAIN, Profile, saved_profile
from shopfit.base.tensor_files import INDEX, WEIGHTS, Piece, check_pieces, read_pieces, weights_in
from shopfit.base.tokenizer_files import VOCABULARIES, check_tokenizer
from shopfit.errors import BaseError

CONFIG = "config.json"
SETTINGS = (
    CONFIG,
    "generation_config.json",  # the tokens that end an answer
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""JSON files that model and tokenizer are made from."""
TEMPLATE = "chat_template.jinja"
CODE = "auto_map"
"""The setting that names code of a base's own. It is never run: libraries are shown the settings without it."""
_MOST_TEMPLATE = 1 << 30


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a base's folder that loading reads.

    Args:
        folder: of the base.
        config: content of config.json.
        files: settings, vocabularies and chat template, by name.
        weights: files of weights, in the order of their names.
        pieces: every tensor in them, by name.
        naming_code: files of settings that name code of the base's own, which is not run.
        profile: how it reads, as far as its files say it.
    """

    folder: Path
    config: Mapping[str, Any]
    files: Mapping[str, Path]
    weights: tuple[Path, ...]
    pieces: tuple[Piece, ...]
    naming_code: tuple[str, ...] = ()
    profile: Profile = PLAIN

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
        weights = weights_in(folder)
        config = settings_in(folder, CONFIG)
        if config is None:
            raise BaseError(
                f"{folder} holds no {CONFIG}", next_step="point to a folder written by transformers' `save_pretrained`"
            )
        naming_code = tuple(name for name in SETTINGS if (settings_in(folder, name) or {}).get(CODE))
        profile = saved_profile(folder, partial(_json, folder))
        if file_in(folder, "adapter_config.json") is not None:
            raise BaseError(
                f"{folder} holds an adapter_config.json: transformers would load that adapter into the base",
                next_step="move the adapter out, or merge it and save the result as a base",
            )
        names = (*SETTINGS, *VOCABULARIES, TEMPLATE)
        files = {name: path for name in names if (path := file_in(folder, name)) is not None}
        check_tokenizer(folder, files)
        if TEMPLATE in files and not 0 < (size := files[TEMPLATE].stat().st_size) <= _MOST_TEMPLATE:
            raise BaseError(
                f"{folder / TEMPLATE} has {size} bytes (allowed: 1 to {_MOST_TEMPLATE})",
                next_step="bring the file again",
            )
        pieces = sorted((piece for path in weights for piece in read_pieces(path)), key=lambda piece: piece.name)
        check_pieces(folder, pieces)
        return cls(folder, config, files, weights, tuple(pieces), naming_code, profile)

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
                if name in self.naming_code:
                    said = {key: value for key, value in read_json(path, path).items() if key != CODE}
                    (shown / name).write_text(json.dumps(said), encoding="utf-8")
                else:
                    (shown / name).symlink_to(path)
            if len(self.weights) == 1:
                (shown / WEIGHTS).symlink_to(self.weights[0])
            else:
                places = {path: f"model-{number:05}.safetensors" for number, path in enumerate(self.weights, start=1)}
                for path, place in places.items():
                    (shown / place).symlink_to(path)
                index = {"metadata": {}, "weight_map": {piece.name: places[piece.path] for piece in self.pieces}}
                (shown / INDEX).write_text(json.dumps(index), encoding="utf-8")
            yield shown
        if self._state() != before:
            raise BaseError(
                f"the base in {self.folder} was changed while it was loaded",
                next_step="wait until it is written, and load it again",
            )

    def _state(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in (*self.files.values(), *self.weights)]
        return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


def _json(folder: Path, name: str) -> Any:
    path = file_in(folder, name)
    return None if path is None else read_json(path, folder / name)
