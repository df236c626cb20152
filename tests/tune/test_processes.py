"""Two processes train one adapter: the same on both, and registered once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REVIEWS = [
    ("lovely crema", "positive"),
    ("arrived cracked", "negative"),
    ("would buy again", "positive"),
    ("the box was wet", "negative"),
]


@pytest.fixture
def shop(tmp_path: Path, tiny_base: Path) -> Path:
    """A merchant's folder with a recipe beside it."""
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    for name, count in (("reviews.jsonl", 24), ("reviews.test.jsonl", 8)):
        rows = [
            {"text": f"{REVIEWS[row % 4][0]}, {name[:9]} order number {row}{row}{row}", "label": REVIEWS[row % 4][1]}
            for row in range(count)
        ]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "sentiment",
        "task": "choose",
        "base": str(tiny_base),
        "data": {
            "file": "reviews.jsonl",
            "near_duplicate": 1.0,
            "augment": [{"step": "typos"}, {"step": "paraphrase", "model": str(tiny_base), "versions": 1}],
        },
        "prompt": {"template": "Review: {text}\nSentiment:"},
        "tune": {"epochs": 2, "lr": 0.01, "adversarial": 0.5, "contrastive": 0.2},
        "evaluate": {"metric": "accuracy"},
    }
    (tmp_path / "sentiment.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_two_processes_make_one_version(shop: Path, home: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "0",
        "--rdzv-backend",
        "c10d",
    ]
    command += [
        "--rdzv-endpoint",
        "localhost:0",
        "-m",
        "shopfit",
        "adapter",
        "acme",
        str(shop.parent / "sentiment.yaml"),
        "--data",
        str(shop),
        "--json",
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    start = done.stdout.find("{")
    assert start >= 0, done.stderr
    answer = json.loads(done.stdout[start:])
    assert (answer["version"]["number"], answer["instant"]["number"]) == (2, 1)
    manifest = json.loads((Path(answer["bundle"]) / "bundle.json").read_text())
    assert manifest["processes"] == 2
    assert len(list((home / "rewrites").glob("*/*.json"))) == len(manifest["data"]["train"])
    assert manifest["steps"] == 2 * 2  # 19 or 20 examples are 3 batches of 8, 2 for each process
