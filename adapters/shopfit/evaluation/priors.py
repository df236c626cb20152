"""Priors: what can be said with no model at all. Every report shows them, and an adapter must beat them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np

from shopfit.evaluation.systems import System
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.merchant.statistics import label_shares, likes, popularity, positive_place
from shopfit.recipe.schema import Recipe
from shopfit.tasks import Pool
from shopfit.tasks.answers import as_text


def priors(
    recipe: Recipe, train: Sequence[Example], *, labels: Sequence[str] = (), catalog: Catalog | None = None
) -> list[System]:
    """The priors that apply to a recipe, fitted.

    choose    majority; and like-rate, where examples say what a shopper liked and disliked and there are two labels
    rank      popularity
    generate  most-common

    Args:
        recipe: whose task it is.
        train: the training examples, at least one.
        labels: choose: every label, in order; by default those of the recipe, else of `train`, sorted.
        catalog: rank: the items; None for plain titles.
    """
    match recipe.task:
        case "choose":
            return _of_labels(recipe, train, labels)
        case "rank":
            return [_popularity(train, catalog)]
        case "generate":
            return [_most_common(train)]
        case _:
            assert_never(recipe.task)


def _of_labels(recipe: Recipe, train: Sequence[Example], labels: Sequence[str]) -> list[System]:
    names = tuple(labels) or tuple(recipe.prompt.labels) or tuple(sorted({str(example.label) for example in train}))
    found = [_majority(train, names)]
    if len(names) == 2 and any(likes(example.fields) is not None for example in train):
        found.append(_like_rate(names))
    return found


def _majority(train: Sequence[Example], labels: tuple[str, ...]) -> System:
    """The labels' frequencies with one added to each (Laplace), whatever the row says."""
    shares = np.array(label_shares(train, labels))
    return System("majority", "prior", "choose", lambda rows, _: [shares] * len(rows), labels)


def _like_rate(labels: tuple[str, ...]) -> System:
    """Share of a shopper's liked items, one added to each side; `yes`, else the last label, is positive."""
    positive = positive_place(labels)

    def answer(rows: Sequence[Example], _: Sequence[Pool]) -> list[list[float]]:
        answers = []
        for row in rows:
            probability = likes(row.fields) or 0.5
            answers.append([probability if place == positive else 1 - probability for place in range(2)])
        return answers

    return System("like-rate", "prior", "choose", answer, labels, fitted=False)


def _popularity(train: Sequence[Example], catalog: Catalog | None) -> System:
    """How many training rows each item was right for, or stood in the history of."""
    counts = popularity(train)

    def answer(_: Sequence[Example], pools: Sequence[Pool]) -> list[list[int]]:
        return [[counts.get(item, 0) for item in pool] for pool in pools]

    return System("popularity", "prior", "rank", answer, catalog=catalog)


def _most_common(train: Sequence[Example]) -> System:
    """The most common answer; of objects, each field's most common value, if most objects have the field at all."""
    outputs = [example.output for example in train]
    objects = [output for output in outputs if isinstance(output, Mapping)]
    if objects and len(objects) == len(outputs):
        text = json.dumps(_common_fields(objects), ensure_ascii=False)
    else:
        text = Counter(map(as_text, outputs)).most_common(1)[0][0]
    return System("most-common", "prior", "generate", lambda rows, _: [text] * len(rows))


def _common_fields(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for name in dict.fromkeys(name for value in objects for name in value):
        values = Counter(json.dumps(value[name], sort_keys=True) for value in objects if name in value)
        if 2 * values.total() >= len(objects):
            found[name] = json.loads(values.most_common(1)[0][0])
    return found
