"""LoRA: every linear layer adds a product of two small matrices (arXiv:2106.09685)."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from shopfit.errors import BundleError
from shopfit.methods.fusing import fuse
from shopfit.methods.low_rank import DEFAULT_ALPHA, NO_PLAIN_FORM, LowRankMethod, compress, shown
from shopfit.methods.method import ADAPTER, Beginning
from shopfit.methods.module_patterns import matches
from shopfit.recipe.schema import Adapter

DEFAULT_RANK = 8  # PEFT's, where adapter_config.json does not say
_MOST_PATTERNS = 1000


class Lora(LowRankMethod):
    """LoRA. The update of a layer is scaled by alpha / rank; by alpha / sqrt(rank) with `rslora` (arXiv:2312.03732)."""

    name = "lora"
    peft_type = "LORA"
    parts = "AB"
    converted = frozenset({"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"})

    def size_in_words(self, settings: Adapter) -> str:
        """Its rank, its target layers, and whether it is rsLoRA."""
        return super().size_in_words(settings) + (", rsLoRA" if settings.rslora else "")

    def config(self, settings: Adapter, *, total_steps: int, task_type: str) -> Any:  # noqa: ARG002
        """PEFT's configuration; it does not depend on `total_steps`."""
        from peft import LoraConfig

        return LoraConfig(
            task_type=task_type,
            r=settings.rank,
            lora_alpha=settings.alpha,
            use_rslora=settings.rslora,
            lora_dropout=settings.dropout,
            target_modules=settings.targets,
        )

    def initialise(self, peft: Any, beginning: Beginning) -> None:
        """Initialise the layers from the factors, and fuse their forward (see `fusing`)."""
        super().initialise(peft, beginning)
        fuse(peft)

    def initialise_layer(self, layer: Any, down: Tensor, up: Tensor) -> None:
        """Copy the factors if the rank allows, else their best approximation of that rank."""
        a, b, scale = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER]
        if len(down) > len(a):
            u, s, v = compress(down, up, len(a))
            down, up = s.sqrt()[:, None] * v, u * s.sqrt()
        a[: len(down)] = down
        b[:, : up.shape[1]] = up / scale

    def plain(
        self, parts: Mapping[str, Tensor], config: Mapping[str, Any], module: str, where: str
    ) -> tuple[Tensor, Tensor]:
        """A unchanged, and B times the scale."""
        rank, scale = rank_and_scale(config, module, where)
        if rank != len(parts["A"]):
            raise BundleError(
                f"{where} has rank {len(parts['A'])} for {module[:200]!a}, where its configuration says {rank}",
                next_step="bring the bundle again, or train it again",
            )
        return parts["A"], parts["B"] * scale


PLAIN = Lora()
"""The method that a bundle's `lora/` is read as."""


def as_lora(settings: Adapter, rate: float | None) -> tuple[Adapter, float | None]:
    """The same settings as LoRA, and the learning rate if it was set for LoRA.

    Args:
        settings: a recipe's `adapter` section.
        rate: its `tune.lr`; None for the method's own.
    """
    return settings.model_copy(update={"method": Lora.name}), rate if settings.method == Lora.name else None


def rank_and_scale(config: Mapping[str, Any], module: str, where: str) -> tuple[int, float]:
    """Rank and scale that PEFT uses for one module of a LoRA configuration.

    Args:
        config: of adapter_config.json.
        module: its name in the base's model.
        where: it is, for messages.

    Returns:
        its rank, and the scale of its update.

    Raises:
        BundleError: if a number or a pattern is invalid, or a pattern uses what `module_patterns` does not support.
    """
    rank = _matched(config, "rank_pattern", module, config.get("r", DEFAULT_RANK), where)
    alpha = _matched(config, "alpha_pattern", module, config.get("lora_alpha", DEFAULT_ALPHA), where)
    if type(rank) is not int or rank < 1 or type(alpha) not in {int, float}:
        problem = f"r={shown(rank)} and lora_alpha={shown(alpha)} for {module}"
        raise BundleError(
            f"{where} has {problem} (allowed: a whole number from 1, and a number)", next_step=NO_PLAIN_FORM
        )
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _matched(config: Mapping[str, Any], key: str, module: str, default: object, where: str) -> Any:
    """The value of the first pattern that matches the end of the module's name, else the default, as in PEFT."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise BundleError(f"{where} has {key}={shown(patterns)} (allowed: numbers by pattern)", next_step=NO_PLAIN_FORM)
    if len(patterns) > _MOST_PATTERNS:
        raise BundleError(f"{where} has {len(patterns)} of {key} (allowed: {_MOST_PATTERNS})", next_step=NO_PLAIN_FORM)
    for pattern, value in patterns.items():
        try:
            if matches(pattern, module):
                return value
        except ValueError as error:
            raise BundleError(f"{where} has the {key} {shown(pattern)}: {error}", next_step=NO_PLAIN_FORM) from None
    return default
