"""What a run would cost, from the data and a few measured steps."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import pytest
import torch
from tests.tune.reviews import LABELS, reviews
from tests.tune.reviews import RECIPE as REVIEWS

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.merchant.item_sampling import draw_others
from shopfit.merchant.leaks import Leaks
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import Splits
from shopfit.recipe.schema import Recipe
from shopfit.tune.cost import plan
from shopfit.tune.folds import FOLDS
from shopfit.tune.run_context import RunContext
from shopfit.tune.trainer import Trainer, make_accelerator

NAMES = [f"tent {number}" for number in range(20)]
CATALOG = Catalog({name: Item(name, name, {"id": name, "title": name}) for name in NAMES})
RECIPE = Recipe.model_validate(
    {
        "name": "r",
        "task": "rank",
        "data": {"file": "x.jsonl", "catalog": "c.jsonl"},
        "prompt": {"template": "Search: {query}\nProduct:"},
        "adapter": {"rank": 4},
        "tune": {"epochs": 1, "negatives": 3},
        "evaluate": {"metric": "mrr", "candidates": 8},
        "blend": False,
    }
)


def searches(part: str, count: int) -> list[Example]:
    return [Example(f"{part}{row}", {"query": f"a {NAMES[row]}"}, relevant=(NAMES[row],)) for row in range(count)]


@pytest.mark.parametrize("catalog", [CATALOG, None])
def test_each_pool_of_candidates_is_drawn_once(encoder: Base, catalog: Catalog | None, tmp_path: Path) -> None:
    valid, test = searches("v", 6), searches("t", 7)
    splits = Splits(searches("a", 12), valid, test, (), Leaks(), "fixed", "")
    prompter = Prompter(RECIPE, encoder.tokenizer, catalog, scorer=encoder.scorer)
    trainer = Trainer(encoder, make_accelerator(RECIPE))
    context = RunContext(Merchant(name="acme", folder=tmp_path), trainer, prompter, splits)
    calls: Counter[str] = Counter()  # of the drawing, by who calls

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is draw_others.__code__:
            calls[frame.f_back.f_code.co_name if frame.f_back else ""] += 1

    sys.setprofile(count)
    try:
        cost = plan(context)
    finally:
        sys.setprofile(None)
    assert calls["_pool"] <= len(valid) + 3 * len(test)
    assert (cost.examples, cost.valid, cost.test) == (12, 6, 7)
    assert cost.train_seconds > 0 < cost.evaluate_seconds
    assert (cost.trainings, cost.parts_seconds) == (0, 0.0)  # which a recipe without blend needs none of


@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_it_tells_of_every_training_and_leaves_the_base_bare(base: Base, layers: str, tmp_path: Path) -> None:
    adapter = REVIEWS.adapter.model_copy(update={"layers": layers})
    recipe = REVIEWS.model_copy(update={"adapter": adapter, "blend": True})
    rows = reviews(30)
    splits = Splits(rows[:24], [], rows[24:], tuple(LABELS), Leaks(), "fixed", "")
    context = RunContext(
        Merchant(name="acme", folder=tmp_path),
        Trainer(base, make_accelerator(recipe)),
        Prompter(recipe, base.tokenizer),
        splits,
    )
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    random = torch.random.get_rng_state()
    cost = plan(context)
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(weight.equal(after[name]) for name, weight in before.items())
    assert torch.random.get_rng_state().equal(random)
    assert (cost.steps, cost.trainings) == (2 * 6, FOLDS)
    assert min(cost.parts_seconds, cost.train_seconds, cost.evaluate_seconds) > 0
    assert cost.seconds == cost.begin_seconds + cost.train_seconds + cost.parts_seconds + cost.evaluate_seconds
