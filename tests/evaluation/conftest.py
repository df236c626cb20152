"""What several of these tests need: a small recipe, a report made of real predictions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shopfit.evaluation import ChoosePredictions, Contender, CurvePoint, Report, make_report
from shopfit.evaluation.report import Course, Held, Sources
from shopfit.recipe.schema import Recipe

MakeRecipe = Callable[..., Recipe]
METRIC = {"choose": "macro_f1", "rank": "ndcg@k", "generate": "field_f1"}


@pytest.fixture
def make_recipe() -> MakeRecipe:
    def make(task: str = "choose", metric: str = "", min_gain: float = 0.0, **sections: Any) -> Recipe:
        document = {
            "name": "r",
            "task": task,
            "data": {"file": "x.jsonl"},
            "prompt": {"template": "Review: {text}\nViewed: {history}"},
            "evaluate": {"metric": metric or METRIC[task], "resamples": 200},
            "gate": {"min_gain": min_gain},
        }
        return Recipe.model_validate(document | sections)

    return make


@pytest.fixture
def report(make_recipe: MakeRecipe) -> Report:
    """An adapter that is right on 9 of 10 rows, a base that is right on half, a majority, a logistic regression."""
    gold = np.tile([0, 1], 30)

    def guesses(wrong: int) -> ChoosePredictions:
        chosen = np.where(np.arange(60) % 10 < wrong, 1 - gold, gold)
        return ChoosePredictions(("negative", "positive"), np.where(np.eye(2)[chosen] == 1, 0.8, 0.2), gold)

    flat = ChoosePredictions(("negative", "positive"), np.tile([0.6, 0.4], (60, 1)), gold)
    return make_report(
        make_recipe("choose", "macro_f1"),
        Held(
            [
                Contender("base", "base", guesses(5)),
                Contender("adapter", "adapter", guesses(1)),
                Contender("majority", "prior", flat),
                Contender("minilm-logreg", "baseline", guesses(2)),
            ]
        ),
        Sources("crema", 86, "fixed", leaks={"duplicates": 2, "near_duplicates": 1, "shared_groups": 0}),
        Course(
            curve=[CurvePoint(epoch=epoch, train_loss=1 / epoch, valid=1 - 0.5 / epoch) for epoch in range(1, 6)],
            seconds=93.4,
            peak_memory_mb=2310.0,
        ),
    )
