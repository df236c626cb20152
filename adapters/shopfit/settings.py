"""Where shopfit keeps its state: the one file, beside cli/, that reads the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from shopfit.errors import ShopfitError


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
            ShopfitError: if `SHOPFIT_HOME` is not set, and this user has no home either.
        """
        home = expanded(os.environ.get("SHOPFIT_HOME") or "~/.shopfit").absolute()
        return cls(
            home=home,
            registry=os.environ.get("SHOPFIT_REGISTRY") or f"sqlite:///{home / 'registry.db'}",
            blobs=os.environ.get("SHOPFIT_BLOBS") or str(home / "blobs"),
        )

    @property
    def cache(self) -> Path:
        """Folder that registry bundles are brought to."""
        return self.home / "cache"


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
