"""Rows proposed to label: doubtful ones, unlike each other, none twice, and readable once they are filled in."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cli.conftest import BLAME, PRAISE, TITLES, Run, review, write_rows

from shopfit.active_learning import draw_diverse, label_next
from shopfit.errors import DataError, RecipeError
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.settings import Settings

WORDS = [*PRAISE, *BLAME, *(title.lower() for title in TITLES.values())]
LABELS = "prompt.labels={negative: negative, positive: positive}"


def by_word(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that know which of the phrases a text has."""
    vectors = np.array([[0.05 + (word in text.lower()) for word in WORDS] for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def proposed(
    shop: Path, settings: Settings, *overrides: str, rows: int = 6, heard: list[str] | None = None
) -> list[dict[str, Any]]:
    heard = [] if heard is None else heard
    recipe = load_recipe(str(shop / "sentiment.yaml"), overrides=overrides)

    def reporter(what: str, detail: str) -> None:
        heard.append(detail)

    return label_next(Merchant.open(shop), recipe, rows=rows, settings=settings, reporter=reporter, embed=by_word)


@pytest.fixture
def unlabeled(shop: Path) -> list[dict[str, Any]]:
    """Twenty new rows, and one that is in the example file already."""
    rows: list[dict[str, Any]] = [{"text": review(row, "new")["text"], "channel": "web"} for row in range(20)]
    write_rows(shop / "reviews.unlabeled.jsonl", [*rows, {"text": review(3)["text"].upper()}])
    return rows


def test_doubt_and_difference_decide() -> None:
    sure, unsure = [0.01, -0.01], [0.5, -0.5]
    gradients = np.array([unsure, unsure, unsure, sure, sure])
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 0]])
    for seed in range(5):
        first = draw_diverse(gradients, vectors, 2, seed)
        assert set(first) == {0, 2}, "one of each kind of the doubtful rows, not the same row's copy"
        assert sorted(draw_diverse(gradients, vectors, 9, seed)) == [0, 1, 2, 3, 4]
    many = np.random.default_rng(0).normal(size=(2, 50, 4))
    assert draw_diverse(*many, 10, 1) == draw_diverse(*many, 10, 1) != draw_diverse(*many, 10, 2)
    same = np.ones((3, 1))
    assert draw_diverse(same, same, 3, 0) == [0, 1, 2]


def test_the_bare_base_is_asked_where_there_is_no_adapter(
    shop: Path, unlabeled: list[dict[str, Any]], settings: Settings
) -> None:
    heard: list[str] = []
    rows = proposed(shop, settings, LABELS, heard=heard)
    assert "21 rows, of which 1 repeat a labelled one" in heard
    assert any(told.startswith("the bare base") for told in heard)
    assert len(rows) == 6
    assert len({row["id"] for row in rows}) == 6
    texts = {row["text"] for row in unlabeled}
    for row in rows:
        assert row["text"] in texts
        assert (row["label"], row["channel"]) == (None, "web")
        assert row["why"].startswith("margin ")
        assert row["suggested"] in ("negative", "positive")
        assert 0.5 <= row["probability"] <= 1
    assert proposed(shop, settings, LABELS) == rows
    assert len({next(word for word in WORDS if word in row["text"]) for row in rows}) >= 5


def test_without_known_labels_rows_are_kept_apart(
    shop: Path, unlabeled: list[dict[str, Any]], settings: Settings
) -> None:
    assert all(row["why"].startswith("margin ") for row in proposed(shop, settings)), "from the examples"
    for file in ("reviews.jsonl", "reviews.test.jsonl"):
        (shop / file).unlink()
    rows = proposed(shop, settings, rows=8)
    assert {row["why"] for row in rows} == {"unlike the others"}
    assert len({next(word for word in WORDS if word in row["text"]) for row in rows}) == 8


def test_what_is_filled_in_trains_the_next_adapter_which_is_asked_then(
    shop: Path, unlabeled: list[dict[str, Any]], settings: Settings
) -> None:
    rows = proposed(shop, settings, LABELS)
    for row in rows:
        row["label"] = "positive" if any(word in row["text"] for word in PRAISE) else "negative"
    with (shop / "reviews.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(str(shop / "sentiment.yaml"), overrides=["tune.epochs=6", "blend=false"])
    done = onboard(Merchant.open(shop), recipe, settings=settings, actor="me")
    assert done is not None
    assert {row["id"] for row in rows} <= {*done.bundle.manifest.data.train, *done.bundle.manifest.data.valid}
    assert done.report.verdict.promote
    heard: list[str] = []
    again = proposed(shop, settings, rows=50, heard=heard)
    assert "acme/sentiment@1, the adapter in production" in heard
    assert not {row["id"] for row in again} & {row["id"] for row in rows}
    assert len(again) == 14


def test_the_files_own_names_are_kept(shop: Path, settings: Settings) -> None:
    for name in ("reviews", "reviews.test"):
        rows = [json.loads(line) for line in (shop / f"{name}.jsonl").read_text().splitlines()]
        write_rows(shop / f"{name}.jsonl", [{"body": row["text"], "stars": row["label"]} for row in rows])
    write_rows(shop / "reviews.unlabeled.jsonl", [{"body": "no opinion at all", "id": "x", "group": "g"}])
    [row] = proposed(shop, settings, LABELS, "data.columns={text: body, label: stars}")
    assert {name: row[name] for name in ("id", "body", "stars", "group")} == {
        "id": "x",
        "body": "no opinion at all",
        "stars": None,
        "group": "g",
    }


def test_rows_to_rank_are_as_doubtful_as_their_search_results(shop: Path, settings: Settings) -> None:
    asked = [{"query": f"a {title.lower()} please"} for title in TITLES.values()]
    write_rows(shop / "searches.unlabeled.jsonl", [*asked, {"query": "any", "candidates": ["tent", "bag"]}])
    recipe = load_recipe(str(shop / "products.yaml"))
    rows = label_next(Merchant.open(shop), recipe, rows=6, settings=settings, embed=by_word)
    assert len(rows) == 6
    assert all(row["relevant"] is None for row in rows)
    whys = {row["query"]: row["why"] for row in rows}
    assert whys["any"].endswith("of 2 items")
    assert whys["a ridge tent please"].endswith("of 5 items")
    for why in whys.values():
        assert 0 <= float(why.split()[1]) <= 1


def test_what_cannot_be_proposed_is_said(shop: Path, settings: Settings) -> None:
    with pytest.raises(DataError, match=r"no unlabeled file reviews\.unlabeled\.jsonl"):
        proposed(shop, settings)
    write_rows(shop / "reviews.unlabeled.jsonl", [review(3)])
    with pytest.raises(DataError, match="is an unlabeled file with labels in it"):
        proposed(shop, settings)
    write_rows(shop / "reviews.unlabeled.jsonl", [{"text": review(3)["text"]}])
    with pytest.raises(DataError, match="repeats one that is labelled"):
        proposed(shop, settings)
    write_rows(shop / "reviews.jsonl", [{"text": "a"}])
    write_rows(shop / "reviews.unlabeled.jsonl", [{"label": None, "other": 1}])
    with pytest.raises(DataError) as caught:
        proposed(shop, settings)
    assert [problem.where.rpartition("/")[2] for problem in caught.value.problems] == [
        "reviews.unlabeled.jsonl:1",
        "reviews.jsonl label",
    ]
    with pytest.raises(RecipeError, match="of task generate"):
        label_next(Merchant.open(shop), load_recipe("user-profile"), rows=1, settings=settings)


@pytest.mark.proof
@pytest.mark.slow
def test_the_command_writes_a_file_and_never_over_one(
    run: Run, shop: Path, unlabeled: list[dict[str, Any]], tmp_path: Path
) -> None:
    target = tmp_path / "next.jsonl"
    command = ["label-next", "acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--out", str(target)]
    done = run(*command, "--rows", "3", "--set", LABELS, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert json.loads(done.stdout) == {"file": str(target), "rows": rows}
    assert len(rows) == 3
    again = run(*command)
    assert again.returncode == 2
    assert "is already there, and may hold labels" in again.stderr
    assert [json.loads(line) for line in target.read_text().splitlines()] == rows
    nowhere = run(*command[:-1], str(tmp_path / "none" / "next.jsonl"))
    assert (nowhere.returncode, "there is no folder" in nowhere.stderr) == (2, True)


def test_self_training_is_in_manifest_and_report(
    shop: Path, unlabeled: list[dict[str, Any]], settings: Settings
) -> None:
    heard: list[str] = []
    recipe = load_recipe(
        str(shop / "sentiment.yaml"),
        overrides=["tune.epochs=4", "tune.self_training.rounds=1", "tune.self_training.confidence=0.5"],
    )
    done = onboard(
        Merchant.open(shop),
        recipe,
        settings=settings,
        actor="me",
        reporter=lambda what, told: heard.append(f"{what}: {told}"),
    )
    assert done is not None
    assert "unlabeled: 20 rows that repeat no example" in heard
    [one] = done.bundle.manifest.self_training
    assert done.report.self_training == (one,)
    assert one.pseudo_labels % 2 == 0 < one.pseudo_labels
    assert done.report.n_train == 24
    assert "| self-training | round 1: " in (done.bundle.folder / "README.md").read_text()


def test_self_training_without_rows_is_refused_before_anything_is_loaded(shop: Path, settings: Settings) -> None:
    overrides = ["tune.self_training.rounds=1", "base=nowhere"]
    with pytest.raises(DataError, match="no unlabeled file"):
        onboard(
            Merchant.open(shop),
            load_recipe(str(shop / "sentiment.yaml"), overrides=overrides),
            settings=settings,
            actor="me",
        )
