"""Where shopfit keeps its state: the one file, beside cli/, that reads the environment."""

import os
from dataclasses import dataclass
from pathlib import Path


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
        """Read `SHOPFIT_HOME`, `SHOPFIT_REGISTRY` and `SHOPFIT_BLOBS`; empty counts as unset."""
        home = Path(os.environ.get("SHOPFIT_HOME") or Path.home() / ".shopfit").expanduser().absolute()
        return cls(
            home=home,
            registry=os.environ.get("SHOPFIT_REGISTRY") or f"sqlite:///{home / 'registry.db'}",
            blobs=os.environ.get("SHOPFIT_BLOBS") or str(home / "blobs"),
        )

    @property
    def cache(self) -> Path:
        """Folder that registry bundles are brought to."""
        return self.home / "cache"
