import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from shopfit.evaluation import ChoosePredictions, GeneratePredictions, RankPredictions
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tasks import System, task_of

MakeRecipe = Callable[..., Recipe]


def priors(recipe: Recipe, train: Sequence[Example], **options: Any) -> list[System]:
    return task_of(recipe.task).priors(recipe, train, **options)


def labelled(labels: Sequence[str], **fields: Any) -> list[Example]:
    return [Example(str(place), {"text": "t"} | fields, label=label) for place, label in enumerate(labels)]


def test_majority_is_the_smoothed_share_of_each_label(make_recipe: MakeRecipe) -> None:
    found = priors(make_recipe("choose"), labelled("aaab"), labels=("b", "a", "c"))
    assert [(system.name, system.kind) for system in found] == [("majority", "prior")]
    answers = found[0].predict(labelled("ab"))
    assert isinstance(answers, ChoosePredictions)
    assert answers.labels == ("b", "a", "c")
    assert answers.probabilities == pytest.approx(np.array([[2 / 7, 4 / 7, 1 / 7]] * 2))
    assert answers.gold.tolist() == [1, 0]


def test_labels_come_from_the_recipe_or_else_sorted_from_the_examples(make_recipe: MakeRecipe) -> None:
    words = {"template": "{text}", "labels": {"b": " B", "a": " A"}}
    assert priors(make_recipe("choose", prompt=words), labelled("ab"))[0].labels == ("b", "a")
    assert priors(make_recipe("choose"), labelled("ba"))[0].labels == ("a", "b")


@pytest.mark.parametrize(("labels", "positive"), [(("yes", "no"), 0), (("no", "yes"), 1), (("a", "b"), 1)])
def test_like_rate_of_each_shopper(make_recipe: MakeRecipe, labels: tuple[str, str], positive: int) -> None:
    train = labelled(labels, liked=["i1"], disliked=[])
    majority, like_rate = priors(make_recipe("choose"), train, labels=labels)
    assert (majority.name, like_rate.name, like_rate.kind) == ("majority", "like-rate", "prior")
    rows = [
        Example("1", {"liked": ["i1", "i2", "i3"], "disliked": ["i4"]}, label=labels[0]),
        Example("2", {"liked": "i1"}, label=labels[0]),
        Example("3", {"text": "nothing known"}, label=labels[0]),
    ]
    answers = like_rate.predict(rows)
    assert isinstance(answers, ChoosePredictions)
    assert answers.probabilities[:, positive] == pytest.approx([4 / 6, 2 / 3, 1 / 2])
    assert answers.probabilities.sum(1) == pytest.approx(1)


def test_no_like_rate_without_likes_or_with_three_labels(make_recipe: MakeRecipe) -> None:
    assert [system.name for system in priors(make_recipe("choose"), labelled("ab"))] == ["majority"]
    three = labelled("abc", liked=["i"], disliked=[])
    assert [system.name for system in priors(make_recipe("choose"), three)] == ["majority"]


def test_popularity_counts_the_training_rows_of_an_item(make_recipe: MakeRecipe) -> None:
    train = [
        Example("1", {}, relevant=("x", "y")),
        Example("2", {}, relevant=("x",)),
        Example("3", {}, relevant=("z",)),
    ]
    catalog = Catalog.of_titles(iter(["x", "y", "z", "never"]))
    [popularity] = priors(make_recipe("rank"), train, catalog=catalog)
    answers = popularity.predict([Example("4", {}, relevant=("y",))], [("never", "x", "y")])
    assert isinstance(answers, RankPredictions)
    assert (popularity.name, answers.scores[0].tolist(), answers.catalog_size) == ("popularity", [0, 2, 1], 4)
    assert answers.relevant == (frozenset("y"),)


def test_most_common_fields_of_objects(make_recipe: MakeRecipe) -> None:
    outputs = [
        {"interests": ["tea", "cups"], "level": "expert"},
        {"interests": ["tea", "cups"], "level": "beginner", "rare": 1},
        {"interests": ["cups"], "level": "beginner"},
    ]
    train = [Example(str(place), {}, output=output) for place, output in enumerate(outputs)]
    [most_common] = priors(make_recipe("generate"), train)
    answers = most_common.predict(train[:2])
    assert isinstance(answers, GeneratePredictions)
    assert json.loads(answers.outputs[0]) == {"interests": ["tea", "cups"], "level": "beginner"}
    assert answers.outputs[0] == answers.outputs[1]
    assert answers.gold == (outputs[0], outputs[1])


def test_most_common_text(make_recipe: MakeRecipe) -> None:
    train = [Example(str(place), {}, output=output) for place, output in enumerate(["no", "yes", "yes"])]
    [most_common] = priors(make_recipe("generate"), train)
    assert most_common.predict(train).outputs == ("yes",) * 3  # type: ignore[union-attr]
