"""The instant version: the best of what needs no training, registered before the trained one, which must beat it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.errors import RecipeError
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import Onboarded, onboard
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from tests.conftest import write_intents

LABELS = ("parcel", "refund", "size")
Make = Callable[..., Recipe]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    write_intents(folder, LABELS)
    return folder


@pytest.fixture
def make(tmp_path: Path, tiny_encoder: Path) -> Make:
    def write(base: Path = tiny_encoder, **tune: Any) -> Recipe:
        document = {
            "name": "intents",
            "task": "choose",
            "base": str(base),
            "data": {"file": "intents.jsonl", "near_duplicate": 1.0},
            "prompt": {"template": "{text}"},
            "adapter": {"rank": 4},
            "blend": False,
            "tune": {"epochs": 2, "lr": 0.01, "batch_size": 4} | tune,
            "evaluate": {"metric": "accuracy", "resamples": 100},
        }
        (tmp_path / "intents.yaml").write_text(yaml.safe_dump(document))
        return load_recipe(str(tmp_path / "intents.yaml"))

    return write


def run(shop: Path, recipe: Recipe, settings: Settings, *, instant: bool = True) -> tuple[Onboarded, list[Onboarded]]:
    first: list[Onboarded] = []
    done = onboard(
        Merchant.open(shop), recipe, settings=settings, actor="test", instant=instant, published=first.append
    )
    assert done is not None
    return done, first


def test_it_is_registered_first_and_is_a_version_like_any_other(shop: Path, make: Make, settings: Settings) -> None:
    done, first = run(shop, make(), settings)
    assert [one.version.number for one in (first[0], done)] == [1, 2]
    assert done.instant is first[0]
    manifest = first[0].bundle.manifest
    assert (manifest.steps, Tenant.of(first[0].bundle).recipe.tune.steps) == (0, 0)
    assert first[0].report.verdict.promote
    compared = {row.name: row.metrics["accuracy"].value for row in done.report.systems}
    assert compared["instant"] == first[0].report.adapter.metrics["accuracy"].value
    rows = [json.loads(line) for line in (shop / "intents.test.jsonl").read_text().splitlines()]
    with Engine.load(str(make().base), settings=settings) as engine:
        tenant = Tenant.of(first[0].bundle)
        answers = engine.answer([ChooseRequest(tenant, {"text": row["text"]}) for row in rows])
    right = [answer.label == row["label"] for answer, row in zip(answers, rows, strict=True)]
    assert sum(right) / len(right) == pytest.approx(compared["instant"])


def test_what_training_makes_no_better_is_refused(shop: Path, make: Make, settings: Settings) -> None:
    done, first = run(shop, make(lr=1e-9, epochs=1), settings)
    instant, trained = (one.report.adapter.metrics["accuracy"].value for one in (first[0], done))
    assert trained <= instant
    assert done.report.verdict.refused
    assert "does not beat" in done.report.verdict.reason
    assert "the instant version" in done.report.verdict.reason
    with Registry.open(settings) as registry:
        assert registry.resolve("acme/intents").number == 1


def test_no_steps_in_the_recipe_stop_there(shop: Path, make: Make, settings: Settings) -> None:
    done, first = run(shop, make(steps=0), settings)
    assert (first, done.instant) == ([], None)
    assert (done.version.number, done.bundle.manifest.steps, done.report.curve) == (1, 0, ())
    assert "scratch as it is" in done.report.start or done.report.start == "scratch"


def test_a_base_that_would_answer_as_if_it_had_seen_nothing_makes_none(
    shop: Path, make: Make, tiny_base: Path, settings: Settings
) -> None:
    with pytest.raises(RecipeError, match=r"takes no step of training, and without training the base .* answers as if"):
        run(shop, make(tiny_base, steps=0), settings)
    done, first = run(shop, make(tiny_base, epochs=1), settings)
    assert (first, done.instant, done.version.number) == ([], None, 1)


def test_one_that_the_gate_refuses_is_not_registered(shop: Path, make: Make, settings: Settings) -> None:
    rows = [json.loads(line) for line in (shop / "intents.test.jsonl").read_text().splitlines()]
    swapped = dict(zip(LABELS, [*LABELS[1:], LABELS[0]], strict=True))
    lines = [json.dumps(row | {"label": swapped[row["label"]]}) + "\n" for row in rows]
    (shop / "intents.test.jsonl").write_text("".join(lines))
    done, first = run(shop, make(epochs=1), settings)
    assert (first, done.version.number, done.report.verdict.refused) == ([], 1, True)


def test_a_starter_that_is_best_as_it_is_is_the_only_version(shop: Path, make: Make, settings: Settings) -> None:
    recipe = make()
    done, _ = run(shop, recipe, settings, instant=False)
    named = recipe.model_copy(update={"start": done.version.name})
    other = shop.parent / "other"
    shop.rename(other)
    (other / "merchant.yaml").write_text("name: other\n")
    kept, _ = run(other, named.model_copy(update={"tune": named.tune.model_copy(update={"steps": 0})}), settings)
    assert kept.bundle.manifest.start == done.version.name
    assert kept.bundle.manifest.steps == 0


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_steps_end_training_and_leave_nothing_behind(steps: int, shop: Path, make: Make, settings: Settings) -> None:
    done, _ = run(shop, make(steps=steps, epochs=3), settings, instant=False)
    assert done.bundle.manifest.steps == steps
    again, _ = run(shop, make(epochs=3), settings, instant=False)
    assert again.bundle.manifest.steps == 3 * 4  # 15 examples are 4 batches of 4
