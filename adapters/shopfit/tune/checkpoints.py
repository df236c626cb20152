"""Checkpoints: every training of a run as far as it is, so that a run that was ended goes on instead of starting anew.

A training is named by all that determines it: recipe, base, examples, start, versions of libraries. So a run that is
repeated with the same inputs finds its own trainings and no others, those that are over included. Kept are weights, the
optimizer's state, AdaLoRA's averages, and where the training is (`training_loop.Place`). Noise is keyed by step, and
batches by epoch, so no random state is among it. The base never is.

    <folder>/<name>.safetensors        a training
    <folder>/<name>.<hex>              one that is being written
    <folder>/run.json                  what the run has come to, such as the instant version
"""

import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

logger = logging.getLogger(__name__)

_FORM = "shopfit-checkpoint-1"  # another number for another form
_SUFFIX, _NOTES = ".safetensors", "run.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a training.

    Args:
        tensors: by name.
        facts: plain data.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name/`, by the rest of it."""
        return {
            key.removeprefix(f"{name}/"): value for key, value in self.tensors.items() if key.startswith(f"{name}/")
        }


class Checkpoints:
    """The trainings of one run.

    Args:
        folder: of the run: of a merchant and a recipe. One process writes it.
        resume: whether trainings go on from what is there; if not, it stays until they are written themselves.
        every: seconds between two writes of a training, at least.
    """

    def __init__(self, folder: Path, *, resume: bool = True, every: float = 15.0) -> None:
        self._folder = folder
        self._resume, self._every = resume, every
        self._written = time.monotonic()
        self._failed = False
        self._names: set[str] = set()  # of the run's trainings
        self.steps = 0  # of the training that was written last

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self._every

    def read(self, name: str) -> Kept | None:
        """What was kept of a training; None if nothing was, it cannot be read, or is not to be gone on with.

        Args:
            name: from `name_of`.
        """
        self._names.add(name)
        if not self._resume:
            return None
        path = self._folder / f"{name}{_SUFFIX}"
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
            if metadata.get("form") != _FORM or metadata.get("name") != name:
                raise ValueError("it is of another form or name")
            return Kept(tensors, json.loads(metadata["facts"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            logger.warning("a training starts anew, since its checkpoint %s cannot be read: %s", path, error)
            return None

    def write(self, name: str, kept: Kept) -> bool:
        """Keep a training, in one step: if the disk is full, what was kept before stays.

        Args:
            name: from `name_of`.
            kept: of it.

        Returns:
            whether it is on disk.
        """
        self._names.add(name)
        self._written = time.monotonic()
        path = self._folder / f"{name}{_SUFFIX}"
        unfinished = self._folder / f"{name}.{secrets.token_hex(8)}"
        said = {"form": _FORM, "name": name, "facts": json.dumps(kept.facts)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                with unfinished.open("xb") as file:
                    file.write(save(dict(kept.tensors), said))
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            if not self._failed:
                logger.warning(
                    "the run goes on without new checkpoints, since %s cannot be written: %s", path, error.strerror
                )
            self._failed = True
            return False
        self._failed = False
        return True

    def clear(self) -> None:
        """Remove what is kept of the run, which is over; other runs of the folder keep theirs."""
        with suppress(OSError):
            for name in self._names:
                (self._folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)
        self.forget_notes()
        with suppress(OSError):  # where others are kept
            for folder in (self._folder, self._folder.parent, self._folder.parent.parent):
                folder.rmdir()

    def forget_notes(self) -> None:
        """Remove the notes."""
        with suppress(OSError):
            (self._folder / _NOTES).unlink(missing_ok=True)

    def note(self, key: str, value: str) -> None:
        """Note what the run has come to, beside its trainings; nothing is noted on a disk that cannot be written."""
        notes = json.dumps({**self.notes, key: value})
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished = self._folder / f"{_NOTES}.{secrets.token_hex(8)}"
            unfinished.write_text(notes, encoding="utf-8")
            unfinished.replace(self._folder / _NOTES)

    @property
    def notes(self) -> dict[str, str]:
        """What was noted."""
        try:
            found = json.loads((self._folder / _NOTES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def there(self) -> bool:
        """Whether any training was kept."""
        with suppress(OSError):
            return any(path.suffix == _SUFFIX for path in self._folder.iterdir())
        return False
