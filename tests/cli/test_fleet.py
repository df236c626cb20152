"""`shopfit fleet`: many merchants, one command, and who needs attention."""

import json
import re
import signal
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Run, review, write_rows
from tests.cli.test_stopping import stopped
from tests.forks import Forks


@pytest.fixture
def yard(tmp_path: Path, tiny_base: Path) -> Path:
    """Three merchants in a folder, beside the recipe."""
    for name in ("acme", "bolt", "crane"):
        folder = tmp_path / "yard" / name
        folder.mkdir(parents=True)
        (folder / "merchant.yaml").write_text(yaml.safe_dump({"name": name}))
        write_rows(folder / "reviews.jsonl", [review(row, name) for row in range(10)])
        write_rows(folder / "reviews.test.jsonl", [review(row, f"{name} test") for row in range(6)])
    recipe = {
        "name": "sentiment",
        "task": "choose",
        "base": str(tiny_base),
        "data": {"file": "reviews.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Review: {text}\nSentiment:"},
        "adapter": {"rank": 4},
        "tune": {"epochs": 1, "batch_size": 4},
        "evaluate": {"metric": "accuracy", "resamples": 100},
    }
    (tmp_path / "sentiment.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "yard"


def test_a_folder_of_merchants_is_a_fleet_and_goes_on(yard: Path, run: Run) -> None:
    (yard / "bolt" / "reviews.jsonl").write_text('{"text": "no label"}\n')
    recipe = str(yard.parent / "sentiment.yaml")
    done = run("fleet", "--recipe", recipe, "--data", str(yard))
    assert done.returncode == 2, done.stderr
    assert "3 merchants in" in done.stdout
    assert "attention  bolt: " in done.stdout
    assert "acme/sentiment@1" in done.stdout
    rows = [review(row, "bolt") for row in range(10)]
    write_rows(yard / "bolt" / "reviews.jsonl", rows)
    again = run("fleet", "--recipe", recipe, "--data", str(yard), "--resume", "--json")
    assert again.returncode in {0, 3}, again.stderr
    found = {one["merchant"]: one for one in json.loads(again.stdout)["merchants"]}
    assert {name: one["earlier"] for name, one in found.items()} == {"acme": True, "bolt": False, "crane": True}
    assert found["bolt"]["version"] == "bolt/sentiment@1"
    assert found["bolt"]["metric"] == "accuracy"
    assert 0 <= found["bolt"]["before"] <= 1


def test_who_is_not_there_is_said_before_anything_is_trained(yard: Path, run: Run) -> None:
    recipe = str(yard.parent / "sentiment.yaml")
    done = run("fleet", "acme", "nobody", "noone", "--recipe", recipe, "--data", str(yard))
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert "noone" in done.stderr
    assert "nothing was trained" in done.stderr
    refused = run("fleet", "acme", "--recipe", recipe, "--data", str(yard), "--set", "adapter.method=adalora")
    assert refused.returncode == 2
    assert "--set adapter.method=lora" in refused.stderr
    assert run("fleet", "--recipe", recipe).returncode == 2


@pytest.mark.proof
def test_a_fleet_on_a_cluster_that_is_stopped_says_what_is_registered(yard: Path, forks: Forks) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    command = [str(forks.shim), "fleet", "--recipe", str(yard.parent / "sentiment.yaml"), "--data", str(yard)]
    begun = "acme/sentiment@1"
    process = stopped([*command, "--no-instant", "--slots", "1", "--ray", "local"], begun, signal.SIGINT)
    assert process.returncode == 130, process.stderr
    assert re.search(r"\d versions? or more registered; go on with --resume", process.stderr), process.stderr


@pytest.mark.proof
def test_workers_without_a_cluster_are_processes_on_this_machine(yard: Path, run: Run) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    command = ["fleet", "--recipe", str(yard.parent / "sentiment.yaml"), "--data", str(yard), "--no-instant"]
    refused = run(*command, "--workers", "4096")
    assert refused.returncode == 2
    assert "4096 workers want a core each" in refused.stderr
    done = run(*command, "--workers", "2")
    assert done.returncode in {0, 3}, done.stderr
    assert all(f"{name}/sentiment@1" in done.stdout for name in ("acme", "bolt", "crane"))
