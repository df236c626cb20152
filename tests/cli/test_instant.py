"""`shopfit adapter` with and without the instant version."""

import json
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Run
from tests.conftest import write_intents

LABELS = ("parcel", "refund", "size")


@pytest.fixture
def intents(shop: Path, tiny_encoder: Path) -> list[str]:
    """Arguments for an adapter on the tiny encoder."""
    write_intents(shop, LABELS)
    recipe = yaml.safe_load((shop / "sentiment.yaml").read_text()) | {
        "name": "intents",
        "base": str(tiny_encoder),
        "data": {"file": "intents.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "{text}"},
        "blend": False,
        "tune": {"epochs": 1, "lr": 1e-9},
    }
    (shop / "intents.yaml").write_text(yaml.safe_dump(recipe))
    return ["adapter", "acme", str(shop / "intents.yaml"), "--data", str(shop)]


def test_it_serves_first_and_training_that_adds_nothing_is_said(run: Run, intents: list[str]) -> None:
    done = run(*intents)
    assert done.returncode == 0, done.stdout + done.stderr  # a version serves
    told = done.stdout.index("instant  acme/intents@1, promoted to @production: accuracy ")
    assert told < done.stdout.index("tuning  up to 1 epoch")
    assert "acme/intents@2, registered as refused" in done.stdout
    assert "serves  acme/intents@1, the instant version, which training did not make better" in done.stdout
    assert "shopfit predict acme/intents " in done.stdout
    found = json.loads(run("registry", "show", "acme/intents", "--json").stdout)
    assert found["version"]["number"] == 1


def test_only_it(run: Run, intents: list[str]) -> None:
    done = run(*intents, "--instant", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["version"]["number"], document["instant"], document["promoted"]) == (1, None, True)
    assert "epoch" not in done.stderr


def test_none_of_it(run: Run, intents: list[str]) -> None:
    done = run(*intents, "--no-instant", "--json", "--set", "tune.lr=0.01", "--set", "tune.epochs=5")
    document = json.loads(done.stdout)
    assert (document["version"]["number"], document["instant"]) == (1, None)
    assert "instant" not in {row["kind"] for row in document["report"]["systems"]}


def test_it_has_nothing_to_search(run: Run, intents: list[str]) -> None:
    done = run(*intents, "--instant", "--search", "3")
    assert done.returncode == 2
    assert "--search tries how to train, and --instant trains nothing" in done.stderr
    said = run(*intents, "--set", "tune.steps=0", "--search", "3")
    assert said.returncode == 2
    assert "--search tries how to train, and tune.steps is 0" in said.stderr
    gone_on = run(*intents, "--instant", "--resume")
    assert gone_on.returncode == 2
    assert "--resume goes on with trainings, and --instant trains nothing" in gone_on.stderr


def test_a_base_without_a_start_has_none(run: Run, shop: Path) -> None:
    done = run(
        "adapter", "acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--instant", "--set", "blend=false"
    )
    assert done.returncode == 2
    assert "sentiment takes no step of training, and without training the base" in done.stderr
    assert "leave out `--instant` or tune.steps" in done.stderr
