"""Ratings of a sample merchant from the command line: told, estimated, trained, asked, measured again, extended."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run, write_rows

from shopfit.merchant.reading import read_rows
from shopfit.recipe.shipped import sample_folder

SMALL = ("tune.epochs=1", "adapter.rank=4", "data.shots=24", "data.max_test=8", "evaluate.resamples=100", "blend=false")


@pytest.fixture
def sample() -> Path:
    folder = sample_folder("crema")
    assert folder is not None
    return folder


def test_a_sample_from_its_data_to_an_adapter_that_rates(run: Run, sample: Path, tiny_base: Path) -> None:
    asked = ["crema", "review-stars", *(f"--set={each}" for each in (f"base={tiny_base}", *SMALL))]
    plan = run("plan", *asked, "--json")
    assert plan.returncode == 0, plan.stderr
    counted = json.loads(plan.stdout)
    assert (counted["examples"] + counted["valid"], counted["test"]) == (24, 8)

    made = run("adapter", *asked, "--json")
    assert made.returncode in {0, 3}, made.stderr  # 3: refused, which a base of random weights may well be
    document = json.loads(made.stdout)
    assert document["report"]["metric"] == "rmse"
    names = {row["name"] for row in document["report"]["systems"]}
    assert {"base", "adapter", "mean", "biases", "minilm-ridge"} <= names

    text = read_rows(sample / "ratings.test.jsonl")[0].values["text"]
    answer = run("predict", "crema/review-stars@1", text, "--json")
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)["answer"]
    assert 1 <= said["score"] <= 5
    assert 0 <= said["spread"] <= 2

    again = run("evaluate", "crema/review-stars@1", "--json")
    assert again.returncode == 0, again.stderr
    reached = {row["name"]: row["metrics"]["rmse"]["value"] for row in document["report"]["systems"]}
    measured = {row["name"]: row["metrics"]["rmse"]["value"] for row in json.loads(again.stdout)["systems"]}
    assert measured == pytest.approx(reached, abs=1e-6)


def test_scores_are_told_and_bad_ones_named(run: Run, tmp_path: Path, sample: Path) -> None:
    told = run("data", "check", "crema", "review-stars", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    [examples] = [file for file in json.loads(told.stdout)["files"] if file["file"] == "ratings.jsonl"]
    [score] = [column for column in examples["columns"] if column["name"] == "score"]
    assert (score["kind"], score["least"], score["most"]) == ("number", 1, 5)
    (tmp_path / "merchant.yaml").write_text("name: acme\n")
    rows = [{"text": f"fine {row}", "score": row} for row in range(12)]
    write_rows(tmp_path / "ratings.jsonl", rows)
    bad = run("data", "check", "acme", "review-stars", "--data", str(tmp_path))
    assert bad.returncode == 2
    assert "ratings.jsonl:7 score: 6 is not accepted (allowed: a number from 1 to 5)" in " ".join(bad.stderr.split())


def test_rows_to_rate_next_are_written_with_their_score_open(run: Run, tmp_path: Path, tiny_base: Path) -> None:
    (tmp_path / "merchant.yaml").write_text("name: acme\n")
    write_rows(tmp_path / "ratings.unlabeled.jsonl", [{"text": f"said {row} things"} for row in range(6)])
    done = run(
        *("label-next", "acme", "review-stars", "--data", str(tmp_path), "--rows", "3", "--json"),
        *("--set", f"base={tiny_base}", "--out", str(tmp_path / "next.jsonl")),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "next.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["score"] is None and row["why"].startswith("spread ") for row in rows)
