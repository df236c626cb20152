"""A fleet's versions are those that onboarding each merchant alone makes, and what fails there fails alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from shopfit.adapter.artifacts import needed
from shopfit.engine import ChooseRequest, Engine, RankRequest, Tenant
from shopfit.errors import DataError, RecipeError
from shopfit.evaluation import Report
from shopfit.fleet import on_one_base, onboard_fleet
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings, sqlite_url
from tests.cli.conftest import TITLES, review, write_rows

# merchants of different sizes: the last has too few rows for folds, the third a validation set of its own
SIZES = {"acme": 24, "bolt": 13, "crane": 104, "dune": 4}


@pytest.fixture
def shops(tmp_path: Path) -> list[Merchant]:
    found = []
    for number, (name, rows) in enumerate(SIZES.items()):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "merchant.yaml").write_text(yaml.safe_dump({"name": name}))
        labels = ("negative", "positive") if number % 2 else ("positive", "negative")
        write_rows(folder / "reviews.jsonl", [review(row, f"{name} train", labels) for row in range(rows)])
        write_rows(folder / "reviews.test.jsonl", [review(row, f"{name} test", labels) for row in range(12)])
        write_rows(folder / "catalog.jsonl", [{"id": one, "title": title} for one, title in TITLES.items()])
        searches = [
            {"query": f"{title.lower()} number {row} {name}", "relevant": [one]}
            for row in range(2 + number)
            for one, title in TITLES.items()
        ]
        write_rows(folder / "searches.jsonl", searches)
        found.append(Merchant.open(folder))
    return found


@pytest.fixture
def still_encoder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """The tiny encoder, without dropout of its own: in a fleet it is off, alone it is on."""
    folder = tmp_path / "still"
    folder.mkdir()
    for file in tiny_encoder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def recipe(folder: Path, base: Path, task: str = "choose", **tune: Any) -> Recipe:
    documents: dict[str, dict[str, Any]] = {
        "choose": {
            "data": {"file": "reviews.jsonl", "near_duplicate": 1.0},
            "prompt": {"template": "Review: {text}\nSentiment:"},
            "evaluate": {"metric": "accuracy", "resamples": 100},
        },
        "rank": {
            "data": {"file": "searches.jsonl", "catalog": "catalog.jsonl", "near_duplicate": 1.0},
            "prompt": {"template": "Search: {query}\nProduct:"},
            "evaluate": {"metric": "mrr", "resamples": 100, "baselines": ["bm25"]},
        },
    }
    document = {
        "name": "r",
        "task": task,
        "base": str(base),
        "adapter": {"rank": 4},
        "tune": {"epochs": 2, "lr": 0.01, "batch_size": 4} | tune,
    }
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(document | documents[task]))
    return load_recipe(str(path))


def apart(settings: Settings, home: Path) -> Settings:
    """The settings of another home, with the same packaged bases."""
    home.mkdir()
    if (settings.home / "bases").exists():
        (home / "bases").symlink_to((settings.home / "bases").resolve())
    return Settings(home=home, registry=sqlite_url(home / "registry.db"), blobs=str(home / "blobs"))


def asked(version: str, settings: Settings, engine: Engine, task: str) -> list[Any]:
    """What a version answers, with its scores."""
    with Registry.open(settings) as registry:
        tenant = Tenant.of(registry.read(registry.resolve(version), needed, settings.cache), version)
    if task == "rank":
        requests: list[Any] = [RankRequest(tenant, {"query": title}, top=5) for title in TITLES.values()]
    else:
        requests = [ChooseRequest(tenant, {"text": review(row, "asked")["text"]}) for row in range(8)]
    return list(engine.answer(requests))


def numbers_in(report: Report) -> Any:
    document = json.loads(report.to_json())
    for key in ("seconds", "peak_memory_mb"):
        document.pop(key)
    return document


def alike(one: Any, other: Any, place: str = "") -> None:
    """The same but for the rounding of forwards that are shared."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            alike(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            alike(*pair, f"{place}[{number}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=5e-3, abs=5e-3), place
    elif place != ".verdict.reason":  # its numbers are those above
        assert one == other, place


def scores(answer: Any) -> list[float]:
    return (
        [float(score) for score in answer.probabilities.values()]
        if hasattr(answer, "probabilities")
        else [float(item.score) for item in answer.items]
    )


@pytest.mark.parametrize(("kind", "task"), [("decoder", "choose"), ("encoder", "choose"), ("encoder", "rank")])
@pytest.mark.parametrize("slots", [3])
def test_its_versions_are_those_of_onboarding_each_alone(
    shops: list[Merchant],
    tmp_path: Path,
    settings: Settings,
    tiny_base: Path,
    still_encoder: Path,
    kind: str,
    task: str,
    slots: int,
) -> None:
    base = tiny_base if kind == "decoder" else still_encoder
    of = recipe(tmp_path, base, task)
    alone = apart(settings, tmp_path / "alone")
    outcomes = onboard_fleet(shops, of, settings=settings, actor="test", instant=True, slots=slots)
    assert [outcome.merchant for outcome in outcomes] == list(SIZES)
    said = []
    with Engine.load(str(base), settings=settings) as engine:
        for merchant, outcome in zip(shops, outcomes, strict=True):
            done = onboard(merchant, of, settings=alone, actor="test", instant=True)
            assert done is not None
            assert outcome.version == done.version.name
            assert outcome.instant == ("" if done.instant is None else done.instant.version.name)
            with Registry.open(settings) as registry:
                made = registry.fetch(registry.resolve(outcome.version), settings.cache)
            report = Report.from_json((made.folder / "report.json").read_bytes())
            alike(numbers_in(report), numbers_in(done.report))
            said.append(asked(outcome.version, settings, engine, task))
            for mine, wanted in zip(said[-1], asked(done.version.name, alone, engine, task), strict=True):
                assert scores(mine) == pytest.approx(scores(wanted), rel=5e-3, abs=5e-3)
    first, second = ([score for answer in answers for score in scores(answer)] for answers in said[:2])
    assert first != pytest.approx(second, rel=2e-2, abs=2e-2)  # else all of this could not tell two merchants apart


def test_what_fails_fails_alone(shops: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path) -> None:
    bad = shops[1]
    (bad.folder / "reviews.jsonl").write_text('{"text": "no label"}\n')
    of = recipe(tmp_path, tiny_base, steps=2)
    outcomes = {one.merchant: one for one in onboard_fleet(shops, of, settings=settings, actor="test")}
    assert [name for name, one in outcomes.items() if one.state == "failed"] == ["bolt"]
    assert "reviews.jsonl" in " ".join([outcomes["bolt"].reason, *outcomes["bolt"].problems])
    assert all(one.needs_attention for one in outcomes.values() if one.state == "failed")
    with Registry.open(settings) as registry:
        assert {version.merchant for version in registry.versions()} == {"acme", "crane", "dune"}


def test_a_merchant_that_is_erased_meanwhile_is_not_registered(
    shops: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    of = recipe(tmp_path, tiny_base)
    onboard_fleet(shops[1:2], of, settings=settings, actor="test")
    with Registry.open(settings) as registry:

        def erase(merchant: str, what: str, _: str) -> None:
            if (merchant, what) == ("bolt", "evaluating"):
                registry.erase(merchant, settings, actor="eve")

        outcomes = onboard_fleet(shops[:2], of, settings=settings, actor="test", reporter=erase)
        assert [outcome.state == "failed" for outcome in outcomes] == [False, True]
        assert "bolt was erased while this was trained on its data" in outcomes[1].reason
        assert registry.versions("bolt") == []


def test_an_interrupted_fleet_goes_on_with_what_is_left(
    shops: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    of = recipe(tmp_path, tiny_base, steps=1)
    before = set(settings.home.iterdir())

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        onboard_fleet(shops, of, settings=settings, actor="test", slots=1, ended=stop)
    with Registry.open(settings) as registry:
        made = [version.merchant for version in registry.versions()]
        assert made == ["acme"]
        again = onboard_fleet(shops, of, settings=settings, actor="test", slots=1, resume=True)
        assert [one.earlier for one in again] == [True, False, False, False]
        assert again[0].version == "acme/r@1"
        assert {version.name for version in registry.versions()} == {f"{name}/r@1" for name in SIZES}
        receipt = registry.erase("acme", settings, actor="eve")
        assert receipt.local["fleets"].count == 1
    left = {path.name for path in set(settings.home.iterdir()) - before}
    assert not any("staging" in name for name in left)
    write_rows(shops[2].folder / "reviews.jsonl", [review(row, "other rows") for row in range(20)])
    anew = onboard_fleet(shops[:3], of, settings=settings, actor="test", resume=True)
    assert [one.earlier for one in anew] == [False, True, False]  # acme was erased, and crane has other rows


def test_what_another_part_of_an_attempt_began_goes_on_and_what_is_older_is_made_anew(
    shops: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    of = recipe(tmp_path, tiny_base, steps=1)
    shops = shops[:2]

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    onboard_fleet(shops, of, settings=settings, actor="test", attempt="yesterday")
    with pytest.raises(KeyboardInterrupt):
        onboard_fleet(shops, of, settings=settings, actor="test", slots=1, attempt="today", ended=stop)
    outcomes = onboard_fleet(shops, of, settings=settings, actor="test", attempt="today")
    assert [(one.version, one.earlier) for one in outcomes] == [("acme/r@2", False), ("bolt/r@2", False)]
    resumed = onboard_fleet(shops, of, settings=settings, actor="test", resume=True, attempt="tomorrow")
    assert [(one.version, one.earlier) for one in resumed] == [("acme/r@2", True), ("bolt/r@2", True)]


def test_a_run_that_is_interrupted_while_it_trains_leaves_nothing(
    shops: list[Merchant], tmp_path: Path, settings: Settings, tiny_base: Path
) -> None:
    def stop(_merchant: str, what: str, _detail: str) -> None:
        if what == "evaluating":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        onboard_fleet(
            shops, recipe(tmp_path, tiny_base, steps=1), settings=settings, actor="test", slots=3, reporter=stop
        )
    with Registry.open(settings) as registry:
        assert registry.versions() == []
    names = {path.name for path in settings.home.iterdir()}
    assert names <= {"bases", "registry.db", "blobs", "cache", "indexes", "fleets"}, names


def test_what_a_fleet_cannot_train_is_refused_before_anything_is_loaded(
    shops: list[Merchant], tmp_path: Path, settings: Settings
) -> None:
    of = recipe(tmp_path, tmp_path / "no-base")
    dropped = of.model_copy(update={"adapter": of.adapter.model_copy(update={"dropout": 0.1})})
    with pytest.raises(RecipeError, match=r"adapter.dropout is 0.1, and its noise") as refused:
        onboard_fleet(shops, dropped, settings=settings, actor="test")
    assert "--set adapter.dropout=0" in (refused.value.next_step or "")
    with pytest.raises(RecipeError, match="a fleet is on one base"):
        onboard_fleet(shops, of.model_copy(update={"base": "auto"}), settings=settings, actor="test")
    with pytest.raises(DataError, match="acme is there twice"):
        onboard_fleet([*shops, shops[0]], of, settings=settings, actor="test")


def test_merchants_of_several_languages_are_not_one_fleet(shops: list[Merchant], settings: Settings) -> None:
    said = shops[1].folder / "merchant.yaml"
    said.write_text(yaml.safe_dump({"name": shops[1].name, "language": "zh"}))
    mixed = [shops[0], Merchant.open(shops[1].folder)]
    asked = load_recipe("support-intent")
    with pytest.raises(RecipeError, match="e5-small-multilingual for bolt") as caught:
        onboard_fleet(mixed, asked, settings=settings, actor="t")
    assert "minilm-l6 for acme" in str(caught.value)
    assert (
        on_one_base(asked.model_copy(update={"base": "e5-small-multilingual"}), mixed).base == "e5-small-multilingual"
    )
