"""What calibration and blend are learned from was trained as the adapter is."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shopfit.merchant.merchant import Merchant
from shopfit.pipeline import trained_run
from shopfit.recipe.loading import load_recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tune.run_context import TrainedRun, prepare
from shopfit.tune.trainer import make_accelerator
from tests.cli.conftest import TITLES, open_shop, review


@pytest.fixture
def shop(tmp_path: Path, tiny_base: Path) -> Path:
    folder = open_shop(tmp_path / "acme", tiny_base)
    items = [
        {"id": name, "title": title, "description": f"a {name} that keeps what it promises on every trip"}
        for name, title in TITLES.items()
    ]
    (folder / "catalog.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    rows = [{"text": review(row, "unlabeled")["text"]} for row in range(16)]
    (folder / "reviews.unlabeled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def by_word(texts: object) -> NDArray[np.float32]:
    return np.array([[len(text), text.count("e"), 1.0] for text in texts], np.float32)  # type: ignore[attr-defined]


@contextmanager
def made(
    folder: Path, name: str, settings: Settings, overrides: list[str], trials: int | None = None
) -> Iterator[TrainedRun]:
    recipe = load_recipe(str(folder / f"{name}.yaml"), overrides=["start=scratch", *overrides])
    accelerator = make_accelerator(recipe)
    context = prepare(Merchant.open(folder), recipe, settings=settings, accelerator=accelerator)
    with (
        Registry.open(settings) as registry,
        trained_run(context, registry, settings=settings, embed=by_word, trials=trials) as found,
    ):
        assert found is not None
        yield found


def test_folds_have_the_pairs_that_the_adapter_has(shop: Path, settings: Settings) -> None:
    with made(shop, "products", settings, ["data.pretext=true", "tune.epochs=1"]) as found:
        pairs = [row.id for row in found.context.splits.pretext]
        assert pairs
        assert len(found.cross_validated) == 3
        for part, _ in found.cross_validated:
            assert [row.id for row in part.beside] == pairs


def test_folds_have_pseudo_labels_where_the_adapter_has_them(shop: Path, settings: Settings) -> None:
    rounds = ["tune.self_training.rounds=1", "tune.self_training.confidence=0.5"]
    with made(shop, "sentiment", settings, [*rounds, "tune.epochs=3"]) as found:
        taught = found.context.self_trained
        assert taught.pseudo
        assert [list(part.beside) for part, _ in found.cross_validated] == [list(part.beside) for part in taught.parts]
        assert all(part.beside for part in taught.parts)


def test_after_a_search_there_is_one_recipe(shop: Path, settings: Settings) -> None:
    with made(shop, "sentiment", settings, ["tune.epochs=1"], trials=2) as found:
        context, study = found.context, found.study
        assert study is not None
        assert context.prompter.recipe is context.recipe
        assert context.recipe.tune.epochs == study.best.values["tune.epochs"]
        assert found.bundle.manifest.recipe_snapshot["tune"]["epochs"] == context.recipe.tune.epochs
