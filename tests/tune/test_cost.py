"""What a run would cost, from the data and one measured batch."""

import sys
from collections import Counter
from types import FrameType

import pytest

from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.merchant.item_sampling import draw_others
from shopfit.merchant.leaks import Leaks
from shopfit.merchant.splits import Splits
from shopfit.recipe.schema import Recipe
from shopfit.tune.cost import plan

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
    }
)


def searches(part: str, count: int) -> list[Example]:
    return [Example(f"{part}{row}", {"query": f"a {NAMES[row]}"}, relevant=(NAMES[row],)) for row in range(count)]


@pytest.mark.parametrize("catalog", [CATALOG, None])
def test_each_pool_of_candidates_is_drawn_once(encoder: Base, catalog: Catalog | None) -> None:
    valid, test = searches("v", 6), searches("t", 7)
    splits = Splits(searches("a", 12), valid, test, (), Leaks(), "fixed", "")
    prompter = Prompter(RECIPE, encoder.tokenizer, catalog, scorer=encoder.scorer)
    calls: Counter[str] = Counter()  # of the drawing, by who calls

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is draw_others.__code__:
            calls[frame.f_back.f_code.co_name if frame.f_back else ""] += 1

    sys.setprofile(count)
    try:
        cost = plan(encoder, RECIPE, splits, prompter)
    finally:
        sys.setprofile(None)
    assert calls["_pool"] == len(valid) + len(test)
    assert (cost.examples, cost.valid, cost.test) == (12, 6, 7)
    assert cost.train_seconds > 0 < cost.evaluate_seconds
