"""A bundle: the immutable folder that holds one adapter. `FILES` lists what is in it.

Weights are safetensors with finite numbers; nothing in a bundle is ever unpickled or executed. Every read checks the
file against the manifest's digest: a folder may be edited while it is in use.
"""

import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shopfit.adapter.finite import ALLOWED, json_problems, tensor_problems
from shopfit.adapter.manifest_rules import MAX_FILES, manifest_problems, place_of
from shopfit.adapter.safe_reading import check_size, file_digest, lines, not_plain, read_file
from shopfit.errors import BundleError, Problem

MANIFEST = "bundle.json"
NATIVE, LORA = "native", "lora"
FILES: Mapping[str, str] = {
    MANIFEST: "what it is, and the SHA-256 of every other file",
    f"{NATIVE}/": "the PEFT folder as trained",
    f"{LORA}/": "the same adapter as plain LoRA, for the serving engines; absent for prefix tuning and DoRA",
    "catalog.jsonl": "rank: the items that it was trained to rank",
    "history.jsonl": "rank: the items of its histories, where those are others",
    "blend.json": "score fusion: the parts of the score beside the adapter's, and their weights",
    "head.safetensors": "on an encoder: a vector for each label, or the discriminant of an adapter without training",
    "report.json": "the report, as numbers",
    "report.png": "the report, as a picture",
    "README.md": "the model card",
    "study.json": "every trial of the search for its settings, if there was one",
}
"""The files and folders of a bundle, and what each holds."""
_AGAIN = "bring the bundle again, or train it again"
_DIVERGED = "train it again with a lower tune.lr (a tenth of it is a good try); nothing was kept of this one"
_NOT_SERVED = {"report.json", "study.json"}  # read by people only: their numbers are not checked


class BaseIdentity(BaseModel):
    """Which base, in which numeric form, an adapter was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(description="as the recipe named it")
    fingerprint: str = Field(description="SHA-256 over all of its files that loading reads")
    quantization: str = Field("none", description="numeric form of its weights: none, int8 or nf4")
    rounding: str = Field("", description="by whom its weights were rounded, if not by bitsandbytes")
    dtype: str = Field("float32", description="type of its other numbers")
    floor: float | None = Field(
        None, ge=0, lt=1, description="of an encoder's cosines, where it was measured: no file of the base says it"
    )
    chat_template: str = Field(
        "",
        description="SHA-256 over the base's chat template, and what it writes around a prompt, if prompts are in it",
    )


class DataIdentity(BaseModel):
    """The data of an adapter: a digest of the rows' content, and the row ids of each split."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    digest: str = Field(description="SHA-256 over the content of the rows")
    train: list[str] = Field(description="ids the weights were fitted on")
    valid: list[str] = Field(description="ids held out of train to choose the best weights")
    test: list[str] = Field(description="ids the report was measured on")
    pretext: int = Field(0, description="pairs from the catalog that the weights were fitted on too")


class SelfTrainingRound(BaseModel):
    """One round of self-training.

    Args:
        number: counts from 1.
        pseudo_labels: answers to unlabeled rows that were used as labels.
        before: the recipe's metric on held-out examples without this round.
        after: the same metric with this round.
        kept: whether the metric was not worse; a round that was worse is the last one.
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
    schema_: int = Field(1, alias="schema", ge=1, le=1, description="version of this contract")
    merchant: str = Field(description="whose adapter it is")
    recipe: str = Field(description="name of the recipe")
    recipe_snapshot: dict[str, Any] = Field(description="the recipe as it was used, every default filled in")
    labels: list[str] = Field(
        [], description="names of the answers that every question has, in order: labels, or the levels of a rating"
    )
    base: BaseIdentity = Field(description="the base that it was trained on")
    encoder: str = Field(
        "", description="fingerprint of the sentence encoder that score fusion was fitted with, and that made `vector`"
    )
    data: DataIdentity = Field(description="what it was trained and measured on")
    share: bool = Field(False, description="whether the merchant lets others start from this adapter")
    donors: list[str] = Field([], description="of a starter: the merchants that it learned from")
    languages: list[str] = Field([], description="of a starter: those of its donors, as tags of BCP 47")
    start: str = Field("scratch", description="what the weights started from")
    vector: list[float] = Field([], description="direction of the training texts, where the merchant shares")
    seed: int = Field(description="of sampling, initialisation, order and dropout")
    method: str = Field(description="lora, adalora or prefix")
    rank: int = Field(description="rank of lora/, or of DoRA; virtual tokens for prefix tuning")
    trainable_parameters: int = Field(description="numbers that were trained")
    steps: int = Field(description="optimizer steps that were taken; 0 for a version that needed no training")
    interpolation: float = Field(1.0, description="share of the way from the first to the trained weights that is kept")
    processes: int = Field(1, description="that trained it together")
    metrics: dict[str, float] = Field({}, description="its metrics on the test set, by name")
    calibration: dict[str, float] = Field(
        {}, description="choose: `temperature` of the scores, and `threshold` from which on an answer is sure"
    )
    offsets: list[float] = Field([], description="choose: subtracted from the scores of the labels, in their order")
    self_training: list[SelfTrainingRound] = Field([], description="its rounds, in order")
    libraries: dict[str, str] = Field(description="versions of the packages that made it, by name")
    created: datetime = Field(
        default_factory=lambda: datetime.now(UTC).replace(microsecond=0), description="when it was sealed, in UTC"
    )
    files: dict[str, str] = Field({}, description="SHA-256 of every other file of the bundle, in hex, by path")

    @property
    def reference(self) -> str:
        """The adapter's reference, such as `acme/review-sentiment`."""
        return f"{self.merchant}/{self.recipe}"

    @property
    def plain(self) -> bool:
        """Whether the bundle holds `lora/`: prefix tuning and DoRA have no such form."""
        return any(name.startswith(f"{LORA}/") for name in self.files)


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read the content of a `bundle.json`.

    Raises:
        BundleError: if it is too large or malformed, naming `where`.
    """
    check_size(MANIFEST, len(content))
    try:
        manifest = Manifest.model_validate_json(content)
        problems = manifest_problems(manifest)
    except ValidationError as error:
        problems = [Problem(place_of(e), e["msg"]) for e in error.errors(include_input=False)]
    if problems:
        problems = [Problem(f"{MANIFEST}: {found.where}", found.what, found.allowed) for found in problems]
        raise BundleError(f"{where} is not a valid manifest", problems=problems, next_step=_AGAIN)
    return manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on local disk.

    Args:
        folder: of the bundle.
        manifest: its `bundle.json`.
        manifest_digest: SHA-256 of that file as it was read; computed if empty.
    """

    folder: Path
    manifest: Manifest
    manifest_digest: str = ""

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
        content = read_file(path)
        if content is None:
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}")
        bundle = cls(folder, parse_manifest(content, str(path)), hashlib.sha256(content).hexdigest())
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
        """The content of one file, checked against the manifest; None if that does not list it.

        Raises:
            BundleError: if the file is missing, cannot be read, or was changed after the bundle was sealed.
        """
        if name not in self.manifest.files:
            return None
        path = self.folder / name
        content = read_file(path)
        if content is None:
            raise BundleError(f"{path} is missing", next_step=_AGAIN)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise BundleError(f"{path} was changed after the bundle was sealed", next_step=_AGAIN)
        return content

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted file digests, `bundle.json` included."""
        manifest = self.manifest_digest or file_digest(self.folder / MANIFEST)
        return bundle_digest(self.manifest.files | {MANIFEST: manifest})

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @property
    def lora(self) -> Path | None:
        """The plain-LoRA folder, or None for prefix tuning and DoRA, which only this engine and PEFT serve."""
        folder = self.folder / LORA
        return folder if folder.is_dir() else None

    @property
    def native(self) -> Path:
        """The PEFT folder as trained."""
        return self.folder / NATIVE


@dataclass(frozen=True, slots=True)
class HeldBundle:
    """Files of a bundle in memory: those that were asked for, each one verified.

    Args:
        manifest: its `bundle.json`.
        contents: by path.
    """

    manifest: Manifest
    contents: Mapping[str, bytes]

    def read(self, name: str) -> bytes | None:
        """The content of one file; None if it is not held.

        Raises:
            BundleError: if it is above the size limit of its kind.
        """
        content = self.contents.get(name)
        if content is not None:
            check_size(name, len(content))
        return content


def seal(folder: Path, manifest: Manifest) -> Bundle:
    """Write `bundle.json` for the files now in `folder`, with their digests.

    Args:
        folder: holds the bundle's other files.
        manifest: what the bundle is; its `files` are replaced.

    Raises:
        BundleError: if a file is above the size limit of its kind, or a weight is not finite, as after diverged
            training.
    """
    if (folder / MANIFEST).is_dir():
        raise not_plain(folder / MANIFEST)
    files = {name: digest for name, digest in file_digests(folder).items() if name != MANIFEST}
    manifest = manifest.model_copy(update={"files": files})
    _check_files(Bundle(folder, manifest))
    content = manifest.model_dump_json(by_alias=True, indent=2).encode() + b"\n"
    check_size(MANIFEST, len(content))
    write_durably(folder / MANIFEST, content)
    return Bundle(folder, manifest, hashlib.sha256(content).hexdigest())


def check_servable(bundle: Bundle | HeldBundle) -> None:
    """Refuse a bundle that is not safe to serve in a shared batch. Called before it is published.

    Args:
        bundle: with all of its files.

    Raises:
        BundleError: with all problems: names, ranges and texts of its manifest; tensors that are not finite in the
            base's dtype, or whose product is not; files and catalog lines above their size limit.
    """
    if problems := manifest_problems(bundle.manifest):
        raise BundleError(
            f"the bundle of {bundle.manifest.reference} is not valid", problems=problems, next_step=_AGAIN
        )
    _check_files(bundle)


def _check_files(bundle: Bundle | HeldBundle) -> None:
    problems: list[Problem] = []
    for name in bundle.manifest.files:
        content = bundle.read(name) or b""
        if name.endswith(".safetensors"):
            problems += tensor_problems(content, name, bundle.manifest.base.dtype)
        elif name.endswith(".json") and name not in _NOT_SERVED:
            problems += json_problems(content, name)
        elif name.endswith(".jsonl"):
            deque(lines(content, name), maxlen=0)  # raises for one that is too long
    if problems and all(problem.allowed == ALLOWED for problem in problems):
        raise BundleError(
            f"the adapter {bundle.manifest.reference} has numbers that are not finite",
            problems=problems,
            next_step=_DIVERGED,
        )
    if problems:
        raise BundleError(
            f"the adapter {bundle.manifest.reference} cannot be served", problems=problems, next_step=_AGAIN
        )


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder`, by its path relative to it, `/`-separated.

    Raises:
        BundleError: if anything is not a plain file, such as a symbolic link, or there are too many files.
    """
    return {name: file_digest(folder / name) for name in sorted(_names(folder))}


def _names(folder: Path) -> Iterator[str]:
    """Paths of the files under `folder`; listing stops when there are too many for a bundle."""
    left, waiting = MAX_FILES, [""]
    while waiting:
        at = waiting.pop()
        try:
            with os.scandir(folder / at) as entries:
                for entry in entries:
                    name = f"{at}/{entry.name}" if at else entry.name
                    left -= 1
                    if left < 0:
                        raise BundleError(
                            f"{folder} holds more than {MAX_FILES} files and folders",
                            next_step="a bundle holds an adapter and nothing else: move the other files away",
                        )
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        yield name
                    else:
                        raise not_plain(folder / name)
        except OSError as error:
            raise BundleError(f"{folder / at} cannot be read: {error.strerror}", next_step=_AGAIN) from error


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
