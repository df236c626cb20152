"""The optimizer of a training: which weights it moves, and how far."""

import torch

from shopfit.adapter.trainable import TrainableAdapter
from shopfit.methods import METHODS
from shopfit.recipe.schema import Recipe


def make_optimizer(recipe: Recipe, adapter: TrainableAdapter) -> torch.optim.Optimizer:
    """AdamW (arXiv:1711.05101), or one of bitsandbytes' with states of 8 bits (arXiv:2110.02861).

    With `tune.lr_ratio` every B is a group of its own, whose learning rate is so many times the others'
    (LoRA+, arXiv:2402.12354).

    Args:
        recipe: its `tune` section says which.
        adapter: whose weights it moves.
    """
    settings = recipe.tune
    rate = settings.lr or METHODS[recipe.adapter.method].rules.learning_rate
    weights = list(adapter.parameters())
    groups = [{"params": weights, "lr": rate}]
    if settings.lr_ratio != 1:
        ups = adapter.up_projections()
        apart = set(map(id, ups))
        rest = [weight for weight in weights if id(weight) not in apart]
        groups = [{"params": rest, "lr": rate}, {"params": ups, "lr": rate * settings.lr_ratio}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay)
    from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit

    kind = AdamW8bit if settings.optimizer == "adamw-8bit" else PagedAdamW8bit
    optimizer: torch.optim.Optimizer = kind(groups, lr=rate, weight_decay=settings.weight_decay)
    return optimizer
