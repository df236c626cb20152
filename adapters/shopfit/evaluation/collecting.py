"""Raw answers -> predictions: one shape a task, whoever answered."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from shopfit.evaluation.predictions import ChoosePredictions, GeneratePredictions, Predictions, RankPredictions
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.tasks import Task

Pool = tuple[str, ...]


def collect(
    task: Task,
    labels: Sequence[str],
    examples: Sequence[Example],
    items: Sequence[Pool],
    answers: Sequence[Any],
    catalog: Catalog | None,
) -> Predictions:
    """Put N raw answers into the task's shape.

    Args:
        task: of the recipe.
        labels: choose: every label.
        examples: N of them.
        items: rank: the candidates of each.
        answers: N arrays of probabilities, arrays of scores, or texts.
        catalog: rank: for its size; without one, every candidate counts.
    """
    if task == "choose":
        gold = np.array([labels.index(str(example.label)) for example in examples], np.int64)
        probabilities = np.array(answers, np.float64).reshape(len(examples), len(labels))
        return ChoosePredictions(tuple(labels), probabilities, gold)
    if task == "rank":
        relevant = tuple(frozenset(example.relevant) for example in examples)
        size = len(catalog) if catalog is not None else len({item for pool in items for item in pool})
        return RankPredictions(tuple(items), tuple(np.array(answer, np.float64) for answer in answers), relevant, size)
    return GeneratePredictions(tuple(answers), tuple(example.output for example in examples))
