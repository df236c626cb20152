"""The learning curve of a small shop: every point, what stands at 0, and what is said when examples are few."""

import json
from pathlib import Path

import pytest
import yaml

from shopfit.curve import learning_curve
from shopfit.errors import DataError, ShopfitError
from shopfit.evaluation.learning_curve import LearningCurve
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.starter import fit_starter
from tests.tune.reviews import BAD, GOOD


def make_shop(folder: Path, name: str, count: int = 12) -> Path:
    folder.mkdir(parents=True)
    (folder / "merchant.yaml").write_text(f"name: {name}\nshare: true\n")
    for part, number in (("reviews", count), ("reviews.test", 12)):
        rows = [
            {"text": f"{part} {name} {row * 7919}: {(GOOD, BAD)[row % 2][row // 2 % 3]}", "label": "pn"[row % 2]}
            for row in range(number)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def load(folder: Path, document: dict[str, object]) -> Recipe:
    path = folder / f"{document['name']}.yaml"
    path.write_text(yaml.safe_dump(document))
    return load_recipe(str(path))


@pytest.fixture
def recipe(tmp_path: Path, tiny_base: Path) -> Recipe:
    document = {
        "name": "sentiment",
        "task": "choose",
        "base": str(tiny_base),
        "data": {"file": "reviews.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Review: {text}\nSentiment:", "labels": {"p": " positive", "n": " negative"}},
        "adapter": {"rank": 4},
        "tune": {"epochs": 2, "lr": 0.01, "batch_size": 4},
        "evaluate": {"metric": "accuracy", "resamples": 100},
    }
    return load(tmp_path, document)


def measured(
    folder: Path, recipe: Recipe, shots: list[int], seeds: int, settings: Settings
) -> tuple[LearningCurve, list[str]]:
    said: list[str] = []
    curve = learning_curve(
        Merchant.open(folder),
        recipe,
        shots,
        seeds,
        settings=settings,
        reporter=lambda what, detail: said.append(f"{what}: {detail}"),
    )
    return curve, said


def test_every_point_is_what_the_main_job_would_give(tmp_path: Path, recipe: Recipe, settings: Settings) -> None:
    folder = make_shop(tmp_path / "acme", "acme")
    curve, said = measured(folder, recipe, [8, 0, 1, 64], 2, settings)
    assert [point.shots for point in curve.points] == [0, 8, 12]
    assert "curve: 1 left out: it takes 2 to train on" in said
    assert "curve: 64 cut to 12: acme has no more examples to learn from" in said
    assert curve.available == 12
    assert curve.seeds == [7, 8]
    assert [(name, kind) for name, kind in curve.names] == [
        ("base", "base"),
        ("adapter", "adapter"),
        ("majority", "prior"),
        ("base-calibrated", "baseline"),
    ]
    bare = curve.points[0].of("adapter")
    assert curve.without == "base"
    assert bare == curve.points[0].of("base").model_copy(update={"name": "adapter", "kind": "adapter"})  # type: ignore[union-attr]
    assert curve.points[0].of("majority") is None  # it must be fitted
    eight = curve.points[1].of("adapter")
    assert eight is not None
    assert len(eight.values) == 2
    with Registry.open(settings) as registry:
        assert registry.versions() == []
    drawn = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"shots": 8}),
            "tune": recipe.tune.model_copy(update={"seed": 8}),
        }
    )
    done = onboard(Merchant.open(folder), drawn, settings=settings, actor="test")
    assert done is not None
    reached = {row.name: row.metrics["accuracy"].value for row in done.report.systems}
    assert eight.values[1] == pytest.approx(reached["adapter"])
    assert curve.points[1].of("base").values == [pytest.approx(reached["base"])]  # type: ignore[union-attr]
    assert curve.points[1].of("majority").values[1] == pytest.approx(reached["majority"])  # type: ignore[union-attr]


def test_at_no_examples_stands_the_houses_starter(tmp_path: Path, recipe: Recipe, settings: Settings) -> None:
    donors = [make_shop(tmp_path / name, name, 20) for name in ("one", "two")]
    more = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"epochs": 6})})
    fitted = fit_starter(donors, more, settings=settings, actor="test")
    assert fitted is not None
    assert fitted.promoted
    folder = make_shop(tmp_path / "acme", "acme")
    curve, _ = measured(folder, recipe, [0], 1, settings)
    assert curve.without == "house/sentiment@1"
    base, adapter = curve.points[0].of("base"), curve.points[0].of("adapter")
    assert base is not None
    assert adapter is not None
    assert adapter.mean > base.mean
    scratch, _ = measured(folder, recipe.model_copy(update={"start": "scratch"}), [0], 1, settings)
    assert scratch.without == "base"
    donor, _ = measured(donors[0], recipe, [0], 1, settings)  # it is in the starter, which therefore tells nothing
    assert donor.without == "base"


def test_of_rank_the_baselines_that_learn_nothing_are_there_without_examples(
    tmp_path: Path, recipe: Recipe, settings: Settings
) -> None:
    folder = make_shop(tmp_path / "acme", "acme")
    titles = {"tent": "Ridge tent", "bag": "Down bag", "stove": "Gas stove", "boots": "Hiking boots"}
    for name, rows in (
        ("catalog", [{"id": key, "title": title} for key, title in titles.items()]),
        (
            "searches",
            [{"query": f"{title} {row}", "relevant": [key]} for row in range(3) for key, title in titles.items()],
        ),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = recipe.model_dump(by_alias=True) | {
        "name": "products",
        "task": "rank",
        "data": {"file": "searches.jsonl", "catalog": "catalog.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Search: {query}\nProduct:"},
        "evaluate": {"metric": "mrr", "baselines": ["bm25"]},
    }
    curve, _ = measured(folder, load(tmp_path, document), [0], 1, settings)
    assert [one.name for one in curve.points[0].systems] == ["base", "adapter", "bm25"]


def test_what_cannot_be_measured_is_one_clear_message(tmp_path: Path, recipe: Recipe, settings: Settings) -> None:
    folder = make_shop(tmp_path / "acme", "acme")
    with pytest.raises(ShopfitError, match="at least 1 seed, not 0"):
        measured(folder, recipe, [0], 0, settings)
    with pytest.raises(ShopfitError, match="0 or more, and there is -4"):
        measured(folder, recipe, [-4], 1, settings)
    with pytest.raises(DataError, match="acme has 12 to learn from, and it takes 2 or more"):
        measured(folder, recipe, [1], 1, settings)
