"""A small shop on a tiny base, whose runs are started as the console starts them."""

from pathlib import Path

import pytest
from tests.cli.conftest import open_shop, review, run, write_rows

__all__ = ["run", "shop"]


@pytest.fixture
def shop(tmp_path: Path, tiny_base: Path) -> Path:
    """Merchant acme with so many reviews that some are held out, and nothing is trained but the adapter."""
    folder = open_shop(tmp_path / "acme", tiny_base)
    write_rows(folder / "reviews.jsonl", [review(row) for row in range(120)])
    return folder
