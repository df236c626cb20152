"""A bundle: the immutable folder that holds one adapter.

    bundle.json     what it is, and the SHA-256 of every other file
    native/         the PEFT folder as trained
    lora/           the same adapter as plain LoRA, for the serving engines (absent for prefix tuning)
    catalog.jsonl   the items it was trained to rank, history.jsonl those of its histories (rank only)
    report.json, report.png, README.md
    study.json      every trial of the search for its settings, if there was one

Weights are safetensors; nothing in a bundle is ever unpickled or executed.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shopfit.errors import BundleError, Problem

MANIFEST = "bundle.json"
NATIVE, LORA = "native", "lora"


class BaseIdentity(BaseModel):
    """Which base, in which numeric form, an adapter was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    fingerprint: str
    quantization: str = "none"
    dtype: str = "float32"


class DataIdentity(BaseModel):
    """Which rows an adapter saw: a digest over their content, and the ids of each part."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    digest: str
    train: list[str] = Field(description="ids the weights were fitted on")
    valid: list[str] = Field(description="ids held out of train to choose the best weights")
    test: list[str] = Field(description="ids the report was measured on")
    pretext: int = Field(0, description="pairs from the catalog that the weights were fitted on too")


class SelfTrainingRound(BaseModel):
    """One round of self-training.

    Args:
        number: counts from 1.
        pseudo_labels: answers to unlabeled rows that were taken for labels.
        before: the recipe's metric on held-out examples without this round.
        after: and with it.
        kept: whether it helped, or did no harm; the last round may not have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    number: int
    pseudo_labels: int
    before: float
    after: float
    kept: bool


class Manifest(BaseModel):
    """The content of `bundle.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_: int = Field(1, alias="schema", ge=1, le=1)
    merchant: str
    recipe: str
    recipe_snapshot: dict[str, Any]
    labels: list[str] = Field([], description="choose: every label, in order")
    base: BaseIdentity
    data: DataIdentity
    share: bool = Field(False, description="whether the merchant lets others start from this adapter")
    donors: list[str] = Field([], description="of a starter: the merchants that it learned from")
    start: str = Field("scratch", description="what the weights started from")
    vector: list[float] = Field([], description="direction of the training texts, where the merchant shares")
    seed: int
    method: str
    rank: int = Field(description="rank of lora/; virtual tokens for prefix tuning")
    trainable_parameters: int
    steps: int
    interpolation: float = Field(1.0, description="share of the way from the first to the trained weights that is kept")
    processes: int = 1
    metrics: dict[str, float] = {}
    calibration: dict[str, float] = {}
    self_training: list[SelfTrainingRound] = []
    libraries: dict[str, str]
    created: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    files: dict[str, str] = {}


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read the content of a `bundle.json`.

    Raises:
        BundleError: if it is malformed, saying where.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        problems = [Problem(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise BundleError(f"{where} is not a valid manifest", problems=problems) from None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on local disk.

    Args:
        folder: where it lies.
        manifest: its `bundle.json`.
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> "Bundle":
        """Read the bundle in `folder`.

        Args:
            folder: a bundle's folder.
            verify: re-hash every file against the manifest.

        Raises:
            BundleError: if the manifest is missing or malformed, or a file is missing, added or altered.
        """
        path = folder / MANIFEST
        try:
            manifest = parse_manifest(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}") from None
        bundle = cls(folder, manifest)
        if verify and (problems := bundle.problems()):
            raise BundleError(
                f"the bundle in {folder} was edited or is incomplete",
                problems=problems,
                next_step="run `shopfit registry verify` to see every broken version, or publish the adapter again",
            )
        return bundle

    def problems(self) -> list[Problem]:
        """Every difference between the files on disk and the manifest; empty if it is intact."""
        found = {name: digest for name, digest in file_digests(self.folder).items() if name != MANIFEST}
        wanted = self.manifest.files
        changed = [
            Problem(name, "its content does not match the manifest")
            for name in sorted(found.keys() & wanted)
            if found[name] != wanted[name]
        ]
        missing = [Problem(name, "is missing") for name in sorted(wanted.keys() - found)]
        added = [Problem(name, "is not in the manifest") for name in sorted(found.keys() - wanted)]
        return changed + missing + added

    def read(self, name: str) -> bytes | None:
        """The content of one file, unchecked; None if there is no such file.

        Raises:
            BundleError: if it cannot be read.
        """
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleError(f"{self.folder / name} cannot be read: {error.strerror}") from error

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted file digests, `bundle.json` included."""
        return bundle_digest(self.manifest.files | {MANIFEST: _sha256(self.folder / MANIFEST)})

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @property
    def lora(self) -> Path | None:
        """The plain-LoRA folder, or None for prefix tuning."""
        folder = self.folder / LORA
        return folder if folder.is_dir() else None

    @property
    def native(self) -> Path:
        """The PEFT folder as trained."""
        return self.folder / NATIVE


@dataclass(frozen=True, slots=True)
class HeldBundle:
    """Files of a bundle in memory, as many as its reader wanted, each one verified.

    Args:
        manifest: its `bundle.json`.
        contents: by path.
    """

    manifest: Manifest
    contents: Mapping[str, bytes]

    def read(self, name: str) -> bytes | None:
        """The content of one file; None if it is not there."""
        return self.contents.get(name)


def seal(folder: Path, manifest: Manifest) -> Bundle:
    """Write `bundle.json` over the files now in `folder`, with their digests.

    Args:
        folder: holds the bundle's other files.
        manifest: what the bundle is; its `files` are replaced.
    """
    files = {name: digest for name, digest in file_digests(folder).items() if name != MANIFEST}
    manifest = manifest.model_copy(update={"files": files})
    write_durably(folder / MANIFEST, manifest.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
    return Bundle(folder, manifest)


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder`, by its path relative to it, `/`-separated.

    Raises:
        BundleError: if there is a symbolic link or anything else that is not a plain file.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder)).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BundleError(f"{path} is not a plain file", next_step="a bundle holds plain files and folders only")
        if path.is_file():
            digests[name] = _sha256(path)
    return digests


def bundle_digest(files: Mapping[str, str]) -> str:
    """SHA-256 over the sorted `path digest` lines of a bundle's files."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step that survives a crash: temporary file, fsync, rename, fsync."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, keys in the order given."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
