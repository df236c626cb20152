"""Ratings from end to end: an adapter is trained, measured, served, searched for, started from, and says what it lacks.

Bases are tiny and random, so nothing is said of how well they rate.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from shopfit.active_learning import label_next
from shopfit.adapter.artifacts import FUSION
from shopfit.adapter.bundle import seal
from shopfit.cli.predict import command as predict
from shopfit.curve import learning_curve
from shopfit.engine import Engine, RateRequest
from shopfit.errors import DataError
from shopfit.merchant.examples import load_examples
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Onboarded, onboard
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.reports import measure_again
from shopfit.settings import Settings
from shopfit.starter import fit_starter, starters

SAID = ("broken and late", "wet box", "it works", "quick delivery", "lovely crema")
USERS = ("ann", "bob", "eve")
METRICS = {"rmse", "mae", "spearman", "rating_ndcg"}


def rating(row: int, part: str) -> dict[str, Any]:
    """What is said tells the score, but that eve is one star less pleased than others."""
    said, user = row * 3 % 5, USERS[row % 3]
    score = max(1, said + 1 - (user == "eve"))
    return {"text": f"{part} {row * 7919}: {SAID[said]}", "user": user, "item": f"i{row % 4}", "score": score}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_shop(folder: Path, *, share: bool = False, count: int = 20) -> Path:
    folder.mkdir(parents=True)
    (folder / "merchant.yaml").write_text(f"name: {folder.name}\nshare: {str(share).lower()}\n")
    write(folder / "ratings.jsonl", [rating(row, f"{folder.name} train") for row in range(count)])
    write(folder / "ratings.test.jsonl", [rating(row, f"{folder.name} test") for row in range(10)])
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_shop(tmp_path / "acme")


@pytest.fixture(params=["tiny_base", "tiny_encoder"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "stars.yaml", request.getfixturevalue(request.param))


@pytest.fixture
def of_decoder(tmp_path: Path, tiny_base: Path) -> Path:
    return write_recipe(tmp_path / "stars.yaml", tiny_base)


def write_recipe(path: Path, base: Path) -> Path:
    document = {
        "name": "stars",
        "task": "rate",
        "base": str(base),
        "data": {"file": "ratings.jsonl", "bounds": [1, 5], "near_duplicate": 1.0},
        "prompt": {"template": "Review: {text}\nStars:"},
        "adapter": {"rank": 4},
        "tune": {"epochs": 3, "lr": 0.02, "batch_size": 4},
        "evaluate": {"metric": "rmse", "resamples": 100, "baselines": ["minilm-ridge"]},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def load(path: Path, *overrides: str) -> Recipe:
    return load_recipe(str(path), overrides=overrides)


def made(
    folder: Path, recipe: Recipe, settings: Settings, *, trials: int | None = None, heard: list[str] | None = None
) -> Onboarded:
    heard = [] if heard is None else heard
    done = onboard(
        Merchant.open(folder),
        recipe,
        settings=settings,
        actor="me",
        trials=trials,
        reporter=lambda what, detail: heard.append(f"{what}: {detail}"),
    )
    assert done is not None
    return done


def by_word(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that know which of the phrases a text has."""
    vectors = np.array([[0.05 + (said in text) for said in SAID] for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_an_adapter_is_measured_kept_and_answers_as_it_was_measured(
    shop: Path, recipe: Path, settings: Settings
) -> None:
    done = made(shop, load(recipe), settings)
    report, card = done.report, (done.bundle.folder / "README.md").read_text()
    systems = {row.name: row for row in report.systems}
    assert {"base", "adapter", "mean", "biases", "minilm-ridge"} <= systems.keys()
    for row in report.systems:
        assert row.metrics.keys() == METRICS
        assert 0 <= row.metrics["mae"].value <= row.metrics["rmse"].value <= 4
    assert not systems["mean"].metrics["spearman"].defined  # it says the same of everything
    assert "rmse ↓" in card, card
    assert done.bundle.manifest.labels == ["1", "2", "3", "4", "5"]
    again = measure_again(done.version.name, Merchant.open(shop), settings=settings)
    reached = {row.name: row.metrics["rmse"].value for row in report.systems}
    assert {row.name: row.metrics["rmse"].value for row in again.systems} == pytest.approx(reached, abs=1e-6)

    merchant = Merchant.open(shop)
    test = load_examples(merchant, load(recipe), "ratings.test.jsonl", catalog=None, history=None)
    with Registry.open(settings) as registry:
        assert registry.resolve(done.version.name).name == "acme/stars@1"
    with Engine.load(load(recipe).base, settings=settings) as engine:
        requests = [RateRequest(done.version.name, row.fields) for row in test]
        answers: Any = engine.answer(requests)
        assert all(1 <= answer.score <= 5 for answer in answers)
        errors = np.array([answer.score for answer in answers]) - [row.score for row in test]
        assert float(np.sqrt((errors**2).mean())) == pytest.approx(reached["adapter"], abs=1e-4)
        asked: Any = engine.ask(done.version.name, test[0].fields)
        assert asked.score == pytest.approx(answers[0].score, abs=1e-4)
        assert asked.digest == answers[0].digest == done.version.digest
        alone: Any = engine.ask(done.version.name, {"text": "nobody said this", "user": 5})
        assert 1 <= alone.score <= 5


def test_predict_is_told_who_rates_what_though_the_prompt_shows_neither(
    shop: Path, of_decoder: Path, settings: Settings
) -> None:
    done = made(shop, load(of_decoder, "tune.epochs=1", "blend=false"), settings)
    blend = {"weights": {"mean": 1, "user-bias": 1, "item-bias": 1}, "mean": 3, "users": {"7": 1}, "items": {"i1": 0.5}}
    (done.bundle.folder / FUSION).write_text(json.dumps(blend))
    with Registry.open(settings) as registry:
        name = registry.publish(seal(done.bundle.folder, done.bundle.manifest), promote=False, actor="me").name

    def asked(*arguments: str) -> Result:
        return CliRunner().invoke(predict, [name, *arguments, "--json"])

    for arguments, score in [
        (['{"text": "wet box", "user": 7}'], 4.0),
        (["wet box", "--field", "user=7", "--field", "item=i1"], 4.5),
        (["wet box", "--field", "user=nobody"], 3.0),
        (["wet box"], 3.0),
    ]:
        said = json.loads(asked(*arguments).stdout)
        assert said["answer"]["score"] == score, said
    assert "shows no 'colour' (allowed: text, user, item)" in str(asked("wet box", "--field", "colour=red").exception)


@pytest.mark.parametrize("overrides", [["tune.huber=0.1"], ["prompt.labels={'1': awful, '2.5': fair, '5': superb}"]])
@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_other_losses_levels_and_methods(
    shop: Path, of_decoder: Path, settings: Settings, overrides: list[str], method: str
) -> None:
    fast = ["tune.epochs=1", "blend=false", f"adapter.method={method}", "evaluate.baselines=[]"]
    done = made(shop, load(of_decoder, *fast, *overrides), settings)
    assert len(done.bundle.manifest.labels) == (3 if "labels" in overrides[0] else 5)
    assert done.report.blend == {}
    assert 0 < done.report.adapter.metrics["rmse"].value <= 4


def test_without_bounds_the_examples_tell_them(shop: Path, of_decoder: Path, settings: Settings) -> None:
    rows = [json.loads(line) for line in (shop / "ratings.jsonl").read_text().splitlines()]
    write(shop / "ratings.jsonl", [row | {"score": 20 * row["score"]} for row in rows])
    write(shop / "ratings.test.jsonl", [rating(row, "test") | {"score": 17.5 * row} for row in range(8)])
    open_bounds = load(of_decoder, "data.bounds=null", "tune.epochs=1")
    done = made(shop, open_bounds, settings)
    assert done.bundle.manifest.labels == [str(level) for level in range(20, 101, 8)]
    assert 0 < done.report.adapter.metrics["rmse"].value < 100
    write(shop / "ratings.jsonl", [row | {"score": 3} for row in rows])
    with pytest.raises(DataError, match="has the score 3"):
        made(shop, open_bounds, settings)


def test_a_curve_shows_what_more_ratings_bring(shop: Path, of_decoder: Path, settings: Settings) -> None:
    curve = learning_curve(
        Merchant.open(shop), load(of_decoder, "tune.epochs=1", "blend=false"), [0, 4], 1, settings=settings
    )
    assert [point.shots for point in curve.points] == [0, 4]
    assert curve.metric == "rmse"
    reached = curve.points[1].of("adapter")
    assert reached is not None
    assert 0 < reached.mean <= 4
    assert {"mean", "minilm-ridge"} <= {one.name for one in curve.points[1].systems}
    assert {one.name for one in curve.points[0].systems} == {"base", "adapter"}


def test_rows_are_proposed_with_their_score_open(shop: Path, recipe: Path, settings: Settings) -> None:
    new = [{name: value for name, value in rating(row, "new").items() if name != "score"} for row in range(12)]
    write(shop / "ratings.unlabeled.jsonl", [*new, {"text": rating(2, "acme train")["text"]}])
    asked = load(recipe, "tune.epochs=1", "blend=false")
    heard: list[str] = []

    def proposed() -> list[dict[str, Any]]:
        return label_next(
            Merchant.open(shop),
            asked,
            rows=4,
            settings=settings,
            reporter=lambda _, detail: heard.append(detail),
            embed=by_word,
        )

    rows = proposed()
    assert "13 rows, of which 1 repeat a labelled one" in heard
    assert any(told.startswith("the bare base") for told in heard)
    assert len({row["text"] for row in rows}) == 4
    for row in rows:
        assert row["score"] is None
        assert row["why"].startswith("spread ")
        assert 0 <= float(row["why"].split()[1]) <= 4
    with (shop / "ratings.jsonl").open("a") as file:
        file.write("".join(json.dumps(row | {"score": 3}) + "\n" for row in rows))
    done = made(shop, asked, settings)
    with Registry.open(settings) as registry:
        registry.promote(done.version.name, actor="me", force=True)
    assert not {row["id"] for row in proposed()} & {row["id"] for row in rows}
    assert "acme/stars@1, the adapter in production" in heard


def test_a_search_tries_ratings_too(shop: Path, of_decoder: Path, settings: Settings) -> None:
    done = made(shop, load(of_decoder, "tune.epochs=1", "blend=false"), settings, trials=2)
    assert done.report.searched is not None
    assert done.report.searched.trials == 2


@pytest.mark.proof
def test_a_new_merchant_starts_from_what_others_rated(tmp_path: Path, recipe: Path, settings: Settings) -> None:
    donors = [make_shop(tmp_path / name, share=True) for name in ("one", "two")]
    asked = load(recipe, "tune.epochs=2")
    fitted = fit_starter(donors, asked, settings=settings, actor="me")
    assert fitted is not None
    assert set(fitted.reached) == {"one", "two"}
    with Registry.open(settings) as registry:
        assert [version.name for version, _ in starters(registry)] == ["house/stars@1"]
        registry.promote("house/stars@1", actor="me", force=True)  # how well it does is not asked here
    done = made(make_shop(tmp_path / "three"), asked, settings)
    assert "house/stars@1" in done.report.start_losses
    assert "scratch" in done.report.start_losses
    named = made(make_shop(tmp_path / "four"), load(recipe, "tune.epochs=1", "start=house/stars@1"), settings)
    assert named.report.start == "house/stars@1"
    assert named.bundle.manifest.labels == ["1", "2", "3", "4", "5"]


def test_donors_that_rate_on_several_scales_are_refused_before_anything_is_trained(
    tmp_path: Path, of_decoder: Path, settings: Settings
) -> None:
    donors = [make_shop(tmp_path / name, share=True) for name in ("one", "two")]
    rows = [json.loads(line) for line in (donors[1] / "ratings.jsonl").read_text().splitlines()]
    write(donors[1] / "ratings.jsonl", [row | {"score": 20 * row["score"]} for row in rows])
    heard: list[str] = []
    with pytest.raises(DataError, match=r"(?s)on one scale.*one: its scores go from 1 to 5.*20 to 100") as no:
        fit_starter(
            donors,
            load(of_decoder, "data.bounds=null"),
            settings=settings,
            actor="me",
            reporter=lambda what, _: heard.append(what),
        )
    assert "data.bounds=[1,100]" in str(no.value.next_step)
    assert heard == []
