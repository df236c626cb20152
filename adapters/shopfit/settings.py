"""Where shopfit keeps its state: the one file, beside cli/, that reads the environment."""

import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from shopfit.errors import ShopfitError

_MOST_GB = 1e9
VARIABLES = {
    "SHOPFIT_HOME": "folder for everything that shopfit writes; `~/.shopfit` by default",
    "SHOPFIT_REGISTRY": "SQLAlchemy URL of the registry; a SQLite file in that folder by default",
    "SHOPFIT_BLOBS": "folder or fsspec URL of the blob store; a folder in that folder by default",
    "SHOPFIT_USER_KEY": "key that pseudonyms of users are made with, 16 bytes or more, the same at all gateways; each "
    "machine makes its own by default",
    "SHOPFIT_INDEX_GB": "gigabytes that the indexes of all merchants' catalogs may take; 16 by default",
}
"""The variables of the environment that are read, and what each says. OpenTelemetry's and Accelerate's are theirs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Places and addresses.

    Args:
        home: folder for everything shopfit writes (`SHOPFIT_HOME`, default `~/.shopfit`).
        registry: SQLAlchemy URL of the registry (`SHOPFIT_REGISTRY`, default a SQLite file under `home`).
        blobs: fsspec URL or path of the blob store (`SHOPFIT_BLOBS`, default a folder under `home`).
    """

    home: Path
    registry: str
    blobs: str

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read `SHOPFIT_HOME`, `SHOPFIT_REGISTRY` and `SHOPFIT_BLOBS`; empty counts as unset.

        Raises:
            ShopfitError: if no place follows from them, or its name cannot be written down.
        """
        home = _home(os.environ.get("SHOPFIT_HOME", ""))
        return cls(
            home=home,
            registry=os.environ.get("SHOPFIT_REGISTRY") or sqlite_url(home / "registry.db"),
            blobs=os.environ.get("SHOPFIT_BLOBS") or str(home / "blobs"),
        )

    def environment(self) -> dict[str, str]:
        """Of a process that is to have the same places."""
        own = {"SHOPFIT_HOME": str(self.home), "SHOPFIT_REGISTRY": self.registry, "SHOPFIT_BLOBS": self.blobs}
        return dict(os.environ) | own

    @property
    def cache(self) -> Path:
        """Folder that registry bundles are brought to."""
        return self.home / "cache"


def sqlite_url(file: Path) -> str:
    """The SQLAlchemy URL of an SQLite file, whatever characters its path has."""
    return f"sqlite:///{quote(str(file))}"


def sharded_by() -> str:
    """What Accelerate's launcher was configured to shard models with, as its variables say: "FSDP", "DeepSpeed" or
    "Megatron-LM"; empty for nothing.
    """
    known = {"FSDP": "FSDP", "DEEPSPEED": "DeepSpeed", "MEGATRON_LM": "Megatron-LM"}
    asked = (name for key, name in known.items() if os.environ.get(f"ACCELERATE_USE_{key}", "").lower() == "true")
    return next(asked, "")


def user_key() -> str:
    """The key that pseudonyms of users are made with (`SHOPFIT_USER_KEY`); empty for the one that `home` keeps."""
    return os.environ.get("SHOPFIT_USER_KEY", "")


def traces_exporter() -> str:
    """Where OpenTelemetry's own variables send spans: "otlp" or "console"; empty for nowhere."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    implied = "otlp" if any(os.environ.get(place) for place in places) else "none"
    named = os.environ.get("OTEL_TRACES_EXPORTER") or implied
    return "" if named == "none" else "console" if named == "console" else "otlp"


def studies(home: Path, merchant: str) -> Path:
    """Folder of a merchant's searches for settings."""
    return home / "studies" / merchant


def fleets(home: Path, merchant: str) -> Path:
    """Folder of what fleets made for a merchant, so that an interrupted one can go on."""
    return home / "fleets" / merchant


def rewrites(home: Path, merchant: str) -> Path:
    """Folder of what models wrote anew of a merchant's texts."""
    return home / "rewrites" / merchant


def runs(home: Path, merchant: str) -> Path:
    """Folder of a merchant's runs; of all merchants', if the name is empty."""
    return home / "runs" / merchant


def erasing_lock(home: Path, merchant: str) -> Path:
    """File that is locked while a merchant's files are removed, so that no run of it begins meanwhile."""
    return home / "runs" / ".erasing" / hashlib.sha256(merchant.encode()).hexdigest()[:16]  # its name goes, too


def merchant_folder(home: Path, merchant: str) -> Path:
    """Folder of a merchant's data, where that was brought through the console."""
    return home / "merchants" / merchant


def uploads(home: Path, merchant: str) -> Path:
    """Folder of files that came for a merchant through the console and were not taken yet; of all, if it is empty."""
    return home / "merchants" / ".uploads" / merchant


def unsorted_rewrites(home: Path) -> list[Path]:
    """What releases before 0.2 wrote anew, of no merchant in particular."""
    return sorted((home / "rewrites").glob("*.json"))


def indexes(home: Path, merchant: str) -> Path:
    """Folder of what was made to search a merchant's catalogs."""
    return home / "indexes" / merchant


def index_bytes() -> int:
    """Bytes that all merchants' indexes may take (`SHOPFIT_INDEX_GB`, default 16).

    Raises:
        ShopfitError: if it is no number above 0.
    """
    said = os.environ.get("SHOPFIT_INDEX_GB") or "16"
    try:
        wanted = float(said)
    except ValueError:
        wanted = 0.0
    if not 0 < wanted < _MOST_GB:
        raise ShopfitError(
            f"SHOPFIT_INDEX_GB is {said!r} (allowed: a number above 0)", next_step="leave it out, or say it in GB: 16"
        )
    return int(wanted * 1e9)


def packed_files(cache: Path, of: Collection[str]) -> list[Path]:
    """The packed adapters (`shopfit.adapter.packed_files`) of bundles in a cache folder, unfinished ones included.

    Args:
        cache: the folder.
        of: digests of bundles.
    """
    wanted = set(of)
    return sorted(path for path in _packed(cache) if path.name.partition("-")[0] in wanted)


def packed_digests(cache: Path) -> set[str]:
    """The digests of bundles of which a cache folder has packed adapters."""
    return {path.name.partition("-")[0] for path in _packed(cache)}


def checkpoints(home: Path, merchant: str) -> Path:
    """Folder of what is kept of a merchant's trainings that are not over."""
    return home / "checkpoints" / merchant


def curve_picture(home: Path, merchant: str, recipe: str) -> Path:
    """Where the picture of a learning curve goes."""
    return home / "curves" / f"{merchant}.{recipe}.png"


def curve_pictures(home: Path, merchant: str) -> list[Path]:
    """All of a merchant's."""
    return sorted((home / "curves").glob(f"{merchant}.*.png"))


def expanded(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced by that user's home.

    Raises:
        ShopfitError: if there is no such home, as in containers that run as a user without an account.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ShopfitError(
            f"{path} lies in a home that is not there: HOME is not set, or there is no such user",
            next_step="set SHOPFIT_HOME to a folder that can be written, and write paths without ~",
        ) from None


def may_write(path: str | Path) -> bool:
    """Whether this process may write a file, or make one in a folder; the system says so, and nothing is written.

    The system is asked with the rights that writing has. `os.access` alone asks with those of the real user and
    without capabilities, by which a container may reach a folder below one that is closed to its user.
    """
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _packed(cache: Path) -> Iterable[Path]:
    try:
        return list((cache / "packed").iterdir())
    except OSError:
        return []


def _home(name: str) -> Path:
    try:
        home = expanded(name or "~/.shopfit").absolute()
        str(home).encode()
    except UnicodeEncodeError:
        raise ShopfitError(
            f"SHOPFIT_HOME is {name!r}, whose name is not UTF-8", next_step="name a folder that is"
        ) from None
    except OSError as error:  # the working directory, which a relative name starts from, is gone
        raise ShopfitError(
            f"SHOPFIT_HOME is {name!r}, relative to a working directory that is not there: {error.strerror}",
            next_step="give SHOPFIT_HOME as a whole path, from /",
        ) from error
    return home
