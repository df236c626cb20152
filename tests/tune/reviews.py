"""Reviews of a made-up shop, and a recipe that tells the good from the bad ones."""

import random

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tune.training_dataset import TrainingSet

RECIPE = Recipe.model_validate(
    {
        "name": "r",
        "task": "choose",
        "data": {"file": "x.jsonl"},
        "prompt": {"template": "Review: {text}\nSentiment:"},
        "adapter": {"rank": 4},
        "tune": {"lr": 0.01, "epochs": 2, "batch_size": 4},
        "evaluate": {"metric": "accuracy"},
    }
)
GOOD = ["lovely crema", "would buy again", "quick delivery"]
BAD = ["arrived cracked", "the box was wet", "broken grinder"]
LABELS = ["negative", "positive"]


def reviews(count: int, *, upside_down: bool = False, seed: int = 0, orders: int = 100) -> list[Example]:
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        positive = number % 2 == 0
        text = f"{draw.choice(GOOD if positive else BAD)}, order {draw.randrange(orders)}"
        rows.append(Example(f"{seed}-{number}", {"text": text}, label=LABELS[positive != upside_down]))
    return rows


def training_set(base: Base, rows: list[Example], valid: list[Example] | None = None) -> TrainingSet:
    return TrainingSet(rows, valid or [], LABELS, Prompter(RECIPE, base.tokenizer))
