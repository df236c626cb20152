"""The optimizer of a training: which weights it moves, and how far."""

import torch

from shopfit.adapter.trained_weights import TrainedWeights
from shopfit.methods import METHODS
from shopfit.recipe.schema import Recipe


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Set each group's learning rate to a share of its full one.

    Args:
        optimizer: from `make_optimizer`.
        share: from `training_loop.learning_rate`.

    Returns:
        the first group's.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * share
    return float(optimizer.param_groups[0]["lr"])


def make_optimizer(recipe: Recipe, trained: TrainedWeights) -> torch.optim.Optimizer:
    """AdamW (arXiv:1711.05101), or one of bitsandbytes' with states of 8 bits (arXiv:2110.02861).

    With `tune.lr_ratio` every B is a group of its own, whose learning rate is so many times the others'
    (LoRA+, arXiv:2402.12354).

    Args:
        recipe: its `tune` section says which.
        trained: the weights that it moves.
    """
    settings = recipe.tune
    rate = settings.lr or METHODS[recipe.adapter.method].rules.learning_rate
    weights = list(trained.parameters())
    groups = [{"params": weights, "initial_lr": rate}]
    if settings.lr_ratio != 1:
        ups = trained.up_projections()
        apart = set(map(id, ups))
        rest = [weight for weight in weights if id(weight) not in apart]
        groups = [{"params": rest, "initial_lr": rate}, {"params": ups, "initial_lr": rate * settings.lr_ratio}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay)
    from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit

    kind = AdamW8bit if settings.optimizer == "adamw-8bit" else PagedAdamW8bit
    optimizer: torch.optim.Optimizer = kind(groups, lr=rate, weight_decay=settings.weight_decay)
    return optimizer
