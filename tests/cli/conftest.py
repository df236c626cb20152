"""A small shop on a tiny base, and the command line as a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.forks import Forks

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PRAISE = ["lovely crema", "would buy again", "quick delivery", "five happy months with it"]
BLAME = ["arrived cracked", "the box was wet", "broken after a week", "nobody answers"]
TITLES = {"tent": "Ridge tent", "bag": "Down bag", "stove": "Gas stove", "boots": "Hiking boots", "lamp": "Head lamp"}


@pytest.fixture
def run(forks: Forks) -> Run:
    """Run `shopfit` with arguments, as a fork of a process that has imported it."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        if any(name.startswith(("PYTHON", "LC_")) for name in environment):
            return anew(*arguments, **environment)
        return forks.run(list(arguments), os.environ | environment)

    return run


@pytest.fixture
def run_anew() -> Run:
    """Run `shopfit` with arguments, as a command of its own."""
    return anew


def anew(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "shopfit", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=1200, check=False
    )


@pytest.fixture
def shop(tmp_path: Path, tiny_base: Path) -> Path:
    """Merchant acme, with the recipes sentiment.yaml and products.yaml beside its files."""
    return open_shop(tmp_path / "acme", tiny_base)


def open_shop(
    folder: Path, base: Path, *, description: str = "a corner shop", labels: tuple[str, str] = ("negative", "positive")
) -> Path:
    """The files of merchant acme, whose reviews have two labels."""
    folder.mkdir(parents=True)
    (folder / "merchant.yaml").write_text(yaml.safe_dump({"name": "acme", "description": description}))
    write_rows(folder / "reviews.jsonl", [review(row, labels=labels) for row in range(24)])
    write_rows(folder / "reviews.test.jsonl", [review(row, "test", labels) for row in range(12)])
    write_rows(folder / "catalog.jsonl", [{"id": name, "title": title} for name, title in TITLES.items()])
    searches = [
        {"query": f"{title.lower()} number {row}", "relevant": [name]}
        for row in range(3)
        for name, title in TITLES.items()
    ]
    write_rows(folder / "searches.jsonl", searches)
    common = {"base": str(base), "tune": {"epochs": 12, "lr": 0.02, "batch_size": 4}, "adapter": {"rank": 4}}
    sentiment = {
        "name": "sentiment",
        "task": "choose",
        "data": {"file": "reviews.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Review: {text}\nSentiment:"},
        "evaluate": {"metric": "accuracy", "resamples": 100},
    }
    products = {
        "name": "products",
        "task": "rank",
        "data": {"file": "searches.jsonl", "catalog": "catalog.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Viewed: {history}\nSearch: {query}\nProduct:"},
        "evaluate": {"metric": "mrr", "resamples": 100, "baselines": ["bm25"]},
    }
    for recipe in (sentiment, products):
        (folder / f"{recipe['name']}.yaml").write_text(yaml.safe_dump(common | recipe))
    return folder


def review(row: int, part: str = "train", labels: tuple[str, str] = ("negative", "positive")) -> dict[str, str]:
    text = (PRAISE if row % 2 else BLAME)[row // 2 % 4]
    return {"text": f"{part} order {row} of many: {text}", "label": labels[row % 2]}


def write_rows(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def state(home: Path) -> list[str]:
    """Everything under the home that a run may leave behind; the registry's own files apart."""
    kept = {"bases", "registry.db", "registry.db-wal", "registry.db-shm", "blobs", "cache", "runs"}
    return sorted(path.name for path in home.iterdir() if path.name not in kept)
