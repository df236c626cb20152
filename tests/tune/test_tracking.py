"""What trackers are told of a run: numbers and settings, in a place of its own, and no text; one missing is named."""

import errno
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import TensorBoardTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.tune.reviews import RECIPE, reviews, training_set

from shopfit.base.load import Base
from shopfit.errors import RecipeError
from shopfit.recipe.schema import Recipe
from shopfit.recipe.trackers import TRACKERS
from shopfit.tune.trainer import Trainer, make_accelerator

STEP = {"loss", "lr", "grad_norm", "examples_per_second", "peak_memory_mb"}
EPOCH = {"epoch", "epoch_loss", "valid/accuracy"}


def recipe(*trackers: str, method: str = "lora") -> Recipe:
    document = RECIPE.model_dump(by_alias=True)
    tune = document["tune"] | {"trackers": list(trackers)}
    return Recipe.model_validate(document | {"adapter": {"method": method, "rank": 2}, "tune": tune})


def fit(base: Base, asked: Recipe, folder: Path) -> int:
    accelerator = make_accelerator(asked, str(folder))
    tuned = Trainer(base, accelerator).fit(training_set(base, reviews(12), reviews(4)), asked)
    tuned.adapter.detach()
    return tuned.steps


def scalars(folder: Path) -> dict[str, list[Any]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_tensorboard_has_a_folder_for_each_run(base: Base, tmp_path: Path, method: str) -> None:
    asked = recipe("tensorboard", method=method)
    for _ in range(2):
        steps = fit(base, asked, tmp_path)
    runs = sorted((tmp_path / "r").iterdir())
    assert len(runs) == 2
    for run in runs:
        logged = scalars(run)
        ranks = {tag for tag in logged if tag.startswith("rank/")}
        assert logged.keys() - ranks == STEP | EPOCH
        assert bool(ranks) == (method == "adalora")
        for tag in STEP:
            assert [each.step for each in logged[tag]] == list(range(1, steps + 1))
        assert all(each.value > 0 for tag in STEP - {"loss"} for each in logged[tag])
        assert all(each.value <= 3 for tag in ranks for each in logged[tag])


def test_weights_and_biases_keeps_a_run_on_this_machine_without_texts(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    fit(base, recipe("wandb"), tmp_path)
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = run.read_bytes()
    for named in ("loss", "grad_norm", "valid/accuracy", "tune.lr", "adapter.rank", "quantization"):
        assert named.encode() in content
    for text in ("lovely crema", "Sentiment", str(base.folder), "pytest"):
        assert text.encode() not in content


@pytest.mark.parametrize("failing", ["log", "finish"])
def test_a_tracker_that_fails_is_named_once_and_the_training_goes_on(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    calls: list[str] = []

    def fail(*_: object, **__: object) -> None:
        calls.append(failing)
        if failing == "finish" or len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TensorBoardTracker, failing, fail)
    with caplog.at_level(logging.WARNING, "shopfit"):
        assert fit(base, recipe("tensorboard"), tmp_path) == 6
    (told,) = (record.getMessage() for record in caplog.records if record.name.startswith("shopfit"))
    assert told.startswith("the training goes on without TensorBoard, which fails: OSError: ")
    assert len(calls) == 2


def test_what_is_not_installed_is_refused_before_anything_is_loaded() -> None:
    missing = [name for name, rules in TRACKERS.items() if find_spec(rules.package) is None]
    for name in missing:
        rules = TRACKERS[name]
        with pytest.raises(RecipeError, match=rf"(?s){rules.title} is not installed.*pip install '{rules.install}'"):
            make_accelerator(recipe("tensorboard", name))


def test_no_other_training_of_a_run_is_logged(base: Base, tmp_path: Path) -> None:
    from shopfit.adapter.initial_weights import Start
    from shopfit.tune.folds import folds, predictions_of

    asked = recipe("tensorboard")
    accelerator = make_accelerator(asked, str(tmp_path))
    predictions_of(Trainer(base, accelerator), asked, folds(asked, training_set(base, reviews(12))), Start())()
    assert list(tmp_path.glob("r/*")) == []
