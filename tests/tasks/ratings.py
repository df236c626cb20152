"""Ratings, and an adapter that rates, for the tests of this folder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tasks import task_of
from shopfit.tasks.rate import RateFusion
from shopfit.tasks.tenant import Tenant

RATE: Any = task_of("rate")
STARS = ("1", "2", "3", "4", "5")
UNEVEN = {"0": "none", "1": "poor", "2.5": "fair", "10": "superb"}
WORDS = ("cracked", "wet", "fine", "lovely", "quick")
NATS = 6.0  # of a squared error of the whole range


def recipe(labels: dict[str, str] | None = None, bounds: list[float] | None = None, **tune: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "stars",
            "task": "rate",
            "data": {"file": "ratings.jsonl", "bounds": bounds},
            "prompt": {"template": "Review: {text}\nStars:", "labels": labels or {}},
            "tune": tune,
            "evaluate": {"metric": "rmse"},
        }
    )


def rated(*scores: float, **fields: Sequence[Any]) -> list[Example]:
    """Examples with those scores, a text each that says about as much, and further fields."""
    return [
        Example(
            str(row),
            {"text": f"{WORDS[int(score) % 5]} {row}"} | {name: values[row] for name, values in fields.items()},
            score=score,
        )
        for row, score in enumerate(scores)
    ]


def by_word(texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = np.array([[0.05 + (word in text) for word in WORDS] for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def text_of(example: Example) -> str:
    return str(example.fields["text"])


def tenant(labels: dict[str, str] | None = None, blend: RateFusion | None = None) -> Tenant:
    asked = recipe(labels, None if labels else [1, 5])
    return Tenant("acme", asked, RATE.labels(asked, []), blend=blend)
