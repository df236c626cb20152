"""Bundles of adapters that learned nothing: their weights are random, so that each answers as no other does."""

from pathlib import Path
from typing import Any

import torch
from tests.engine.conftest import recipe_of, seal_as

from shopfit.adapter.bundle import LORA, NATIVE, Bundle
from shopfit.adapter.trainable import attach
from shopfit.adapter.weight_files import write_served
from shopfit.base.load import Base
from shopfit.base.scoring.questions import Question

TEXTS = [(5, 6, 7, 8, 9, 10, 11, 12, 13), (20, 21, 22), (30,), (23, 24, 25)]


def bundle_on(base: Base, folder: Path, seed: int, **adapter: Any) -> Bundle:
    """The bundle of an adapter whose weights are random, after one step of training, from which they have gradients."""
    torch.manual_seed(seed)
    recipe = recipe_of(base, "rank", adapter={"rank": 4} | adapter)
    trained = attach(base, recipe.adapter, total_steps=10, opening=(5,))
    questions = [Question(TEXTS[0], TEXTS[1:], more=(TEXTS[2],)), Question(TEXTS[1], TEXTS[2:])]
    with torch.no_grad():
        for name, weight in trained.peft.named_parameters():
            if weight.requires_grad and "magnitude" not in name:
                weight.copy_(torch.randn_like(weight) / 4)
    base.scorer.collate(questions).forward(trained.model).square().sum().backward()
    grads = [weight.grad for weight in trained.parameters()]
    assert any(grad is not None and grad.abs().sum() > 0 for grad in grads)
    assert all(grad is None or bool(grad.isfinite().all()) for grad in grads)
    trained.save(folder / NATIVE)
    trained.detach()
    rank = write_served(folder / NATIVE, folder / LORA, recipe.adapter)
    return seal_as(folder, base, recipe, f"m{seed}", method=recipe.adapter.method, rank=rank, seed=seed)
