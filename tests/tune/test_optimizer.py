"""What a step moves, and how far: LoRA+ gives every B a rate of its own, whichever optimizer takes the step."""

from typing import Any

import pytest
import torch
from tests.tune.reviews import RECIPE, reviews, training_set

from shopfit.base.load import Base
from shopfit.recipe.schema import Recipe
from shopfit.tune.search import changed
from shopfit.tune.trainer import Trainer, make_accelerator


def recipe(method: str = "lora", *, dora: bool = False, **tune: Any) -> Recipe:
    document = RECIPE.model_dump(by_alias=True)
    adapter = {"method": method, "rank": 4, "dora": dora}
    return Recipe.model_validate(document | {"adapter": adapter, "tune": document["tune"] | tune})


def after_one_step(base: Base, asked: Recipe) -> dict[str, torch.Tensor]:
    tuned = Trainer(base, make_accelerator(asked)).fit(training_set(base, reviews(8)), asked)
    weights = {name: weight.detach().clone() for name, weight in tuned.adapter.peft.named_parameters()}
    tuned.adapter.detach()
    return weights


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-8bit", "paged-adamw-8bit"])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_the_first_step_moves_every_b_so_many_times_as_far(base: Base, optimizer: str, dora: bool) -> None:
    settings = {"steps": 1, "lr": 1e-3, "optimizer": optimizer}
    once, far = (after_one_step(base, recipe(dora=dora, lr_ratio=ratio, **settings)) for ratio in (1, 16))
    moved = [name for name in once if ".lora_B." in name]
    assert moved
    for name in moved:  # B starts at 0, and the first step of Adam is as long as the rate
        assert once[name].any()
        torch.testing.assert_close(far[name], 16 * once[name])
    for name in once.keys() - set(moved):
        torch.testing.assert_close(far[name], once[name])


def test_the_b_of_adalora_goes_further_too(base: Base) -> None:
    settings = {"steps": 2, "lr": 1e-3, "weight_decay": 0.0}
    still, once, far = (
        after_one_step(base, recipe("adalora", **(settings | more)))
        for more in ({"lr": 1e-12}, {"lr_ratio": 1}, {"lr_ratio": 8})
    )
    for name in (name for name in once if ".lora_B." in name):
        assert (far[name] - still[name]).norm() > 4 * (once[name] - still[name]).norm() > 0


def test_a_prefix_has_no_b() -> None:
    with pytest.raises(ValueError, match=r"tune\.lr_ratio: prefix tuning has no factors A and B \(allowed: 1\)"):
        recipe("prefix", lr_ratio=2)
    assert changed(recipe(lr_ratio=2), {"adapter.method": "prefix"}).tune.lr_ratio == 1
    assert changed(recipe(lr_ratio=2), {"adapter.method": "adalora"}).tune.lr_ratio == 2
