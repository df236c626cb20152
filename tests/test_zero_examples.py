"""K = 0: a merchant without any example, whose catalog is all that there is to learn from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shopfit.errors import DataError, RecipeError
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Onboarded, onboard
from shopfit.recipe.loading import load_recipe
from shopfit.reports import measure_again
from shopfit.settings import Settings
from shopfit.starter import fit_starter
from shopfit.tune.merchant_dataset import MerchantDataset

SAID = {
    "tent": "sleeps two and keeps the rain off",
    "bag": "keeps you warm in the cold",
    "stove": "cooks dinner on gas",
    "boots": "walk far on wet paths",
    "lamp": "see where you are at night",
    "rope": "holds what would fall",
    "mat": "lie soft on stones",
}
SEARCHES = [{"query": f"want to {said.split(' ', 1)[1]}", "relevant": [item]} for item, said in SAID.items()]
Make = Callable[..., Onboarded]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_shop(tmp_path / "acme")


def make_shop(folder: Path) -> Path:
    folder.mkdir()
    (folder / "merchant.yaml").write_text(f"name: {folder.name}\nshare: true\n")
    write(folder / "catalog.jsonl", [{"id": i, "title": f"The {i}", "description": said} for i, said in SAID.items()])
    write(folder / "searches.test.jsonl", SEARCHES)
    return folder


@pytest.fixture
def recipe(tmp_path: Path, tiny_base: Path) -> Path:
    document = {
        "name": "products",
        "task": "rank",
        "base": str(tiny_base),
        "data": {"file": "searches.jsonl", "catalog": "catalog.jsonl", "near_duplicate": 1.0},
        "prompt": {"template": "Viewed: {history}\nSearch: {query}\nProduct:"},
        "adapter": {"rank": 4},
        "tune": {"epochs": 2, "lr": 0.02, "batch_size": 4},
        "evaluate": {"metric": "mrr", "resamples": 100, "baselines": ["bm25"]},
    }
    path = tmp_path / "products.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def make(settings: Settings, recipe: Path) -> Make:
    def make(folder: Path, *overrides: str, heard: list[str] | None = None) -> Onboarded:
        heard = [] if heard is None else heard
        loaded = load_recipe(str(recipe), overrides=overrides)
        done = onboard(
            Merchant.open(folder),
            loaded,
            settings=settings,
            actor="me",
            reporter=lambda what, detail: heard.append(f"{what}: {detail}"),
        )
        assert done is not None
        return done

    return make


def test_a_catalog_alone_makes_an_adapter(shop: Path, make: Make, settings: Settings) -> None:
    heard: list[str] = []
    done = make(shop, heard=heard)
    assert "examples: 0 examples; 7 pairs from the catalog, 7 to test (fixed)" in heard
    assert (done.report.n_train, done.report.n_pretext, done.report.test_kind) == (0, 7, "fixed")
    assert (done.report.start, done.report.blend, done.report.calibration) == ("scratch", {}, {})
    data = done.bundle.manifest.data
    assert (data.train, data.valid, data.pretext, len(data.test)) == ([], [], 7, 7)
    assert (
        "trained by shopfit from 0 examples; 7 pairs from the catalog" in (done.bundle.folder / "README.md").read_text()
    )
    prior = next(row for row in done.report.systems if row.kind == "prior")
    assert prior.metrics["mrr"].defined
    again = measure_again(done.version.name, Merchant.open(shop), settings=settings)
    assert again.adapter.metrics["mrr"].value == pytest.approx(done.report.adapter.metrics["mrr"].value, abs=1e-6)
    assert again.n_pretext == 7


def test_no_shots_leave_the_examples_alone(shop: Path, make: Make) -> None:
    write(shop / "searches.jsonl", [{"query": f"other {row}", "relevant": ["tent"]} for row in range(6)])
    report = make(shop, "data.shots=0").report
    assert (report.n_train, report.n_pretext) == (0, 7)
    both = make(shop, "data.pretext=true").report
    assert (both.n_train, both.n_pretext) == (6, 7)
    plain = make(shop, "data.shots=1").report
    assert (plain.n_train, plain.n_pretext) == (1, 0)


def test_what_was_measured_on_pairs_only_is_not_promoted(shop: Path, make: Make) -> None:
    (shop / "searches.test.jsonl").unlink()
    done = make(shop, "data.test_fraction=0.4")
    assert done.report.test_kind == "pretext"
    assert (done.report.n_pretext, done.report.n_test) == (4, 3)
    assert not done.report.verdict.promote
    assert "pairs from the catalog only" in done.version.reason


def test_it_starts_from_the_house_where_there_is_a_starter(
    shop: Path, make: Make, recipe: Path, settings: Settings, tmp_path: Path
) -> None:
    donors = [make_shop(tmp_path / name) for name in ("north", "south")]
    for donor in donors:
        write(donor / "searches.jsonl", [row | {"query": f"{donor.name} {row['query']}"} for row in SEARCHES])
    loaded = load_recipe(str(recipe), overrides=["tune.epochs=20"])
    with pytest.raises(DataError, match="cannot donate") as caught:
        fit_starter([*donors, shop], loaded, settings=settings, actor="me")
    assert "acme has no examples" in str(caught.value)
    fitted = fit_starter(donors, loaded, settings=settings, actor="me")
    assert fitted is not None
    assert fitted.promoted
    assert make(shop).report.start == fitted.version.name


def test_other_tasks_need_examples_or_a_starter(
    shop: Path, tiny_base: Path, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="it needs examples, or a starter"):
        load_recipe("review-sentiment", overrides=["data.shots=0"])
    with pytest.raises(RecipeError, match="only for task rank"):
        load_recipe("user-profile", overrides=["data.pretext=true"])
    with pytest.raises(RecipeError, match="only for task choose"):
        load_recipe("product-recommendation", overrides=["tune.self_training.rounds=1"])
    loaded = load_recipe("review-sentiment", overrides=[f"base={tiny_base}"])
    with pytest.raises(DataError, match="task choose needs examples, or a starter"):
        onboard(Merchant.open(shop), loaded, settings=settings, actor="me")


def test_a_catalog_that_says_nothing_is_refused_before_anything_is_loaded(shop: Path, make: Make) -> None:
    write(shop / "catalog.jsonl", [{"id": item, "title": item} for item in SAID])
    with pytest.raises(DataError, match="says nothing of its items but their titles"):
        make(shop, "base=nowhere")


def test_a_label_without_an_example_is_announced_and_answered(shop: Path, tiny_base: Path, settings: Settings) -> None:
    words = {"bad": "arrived cracked", "good": "lovely crema", "mixed": "fine but late"}
    rows = [{"text": f"order {row}: {words[label]}", "label": label} for row in range(4) for label in words]
    write(shop / "reviews.jsonl", [row for row in rows if row["label"] != "mixed"])
    write(shop / "reviews.test.jsonl", [{"text": f"test {row['text']}", "label": row["label"]} for row in rows])
    overrides = [
        f"base={tiny_base}",
        "prompt.labels={bad: bad, good: good, mixed: mixed}",
        "evaluate={metric: accuracy, resamples: 100}",
        "data.near_duplicate=1.0",
        "tune.epochs=1",
    ]
    heard: list[str] = []
    done = onboard(
        Merchant.open(shop),
        load_recipe("review-sentiment", overrides=overrides),
        settings=settings,
        actor="me",
        reporter=lambda what, detail: heard.append(f"{what}: {detail}"),
    )
    assert done is not None
    assert "labels: no example to train on: mixed; what they mean is left to their words" in heard
    assert done.bundle.manifest.labels == ["bad", "good", "mixed"]
    assert done.report.n_test == 12


def test_a_run_says_that_the_example_file_is_not_there(shop: Path, recipe: Path) -> None:
    said: list[tuple[str, str]] = []
    MerchantDataset.read(Merchant.open(shop), load_recipe(recipe)).tell(lambda what, text: said.append((what, text)))
    assert ("examples", "no searches.jsonl: pairs from the catalog") in said
