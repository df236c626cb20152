"""LoRA: every linear layer adds a product of two small matrices (arXiv:2106.09685).

With DoRA (arXiv:2402.09353) a layer also has a magnitude m of each output, and computes g (W x + s B A x) + bias, where
g = m / ||W + s B A|| with the norm of each row. Once trained, g is constant: engines need no more than A, g s B and g.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shopfit.errors import BundleError, RecipeError
from shopfit.methods.fusing import fuse
from shopfit.methods.low_rank import DEFAULT_ALPHA, NO_PLAIN_FORM, LowRankMethod, compress, shown
from shopfit.methods.method import ADAPTER, Beginning, NormScales
from shopfit.methods.module_patterns import matches
from shopfit.recipe.adapter_section import Adapter

DEFAULT_RANK = 8  # PEFT's, where adapter_config.json does not say
NO_PLAIN_DORA = (
    "DoRA scales the base's own outputs, so that no plain LoRA equals it: shopfit's engine and PEFT serve it, vLLM and "
    "others do not (for those leave adapter.dora out)"
)
_MOST_PATTERNS = 1000


class Lora(LowRankMethod):
    """LoRA. The update of a layer is scaled by alpha / rank; by alpha / sqrt(rank) with `rslora` (arXiv:2312.03732).

    With `dora` it is DoRA.
    """

    name = "lora"
    peft_type = "LORA"
    parts = "AB"
    converted = frozenset({"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"})

    def size_in_words(self, settings: Adapter) -> str:
        """Its rank, its target layers, and whether it is rsLoRA or DoRA."""
        switches = (", rsLoRA" if settings.rslora else "") + (", DoRA" if settings.dora else "")
        return super().size_in_words(settings) + switches

    def no_plain_form(self, settings: Adapter) -> str:
        """DoRA multiplies the base's own outputs, which a sum with a low-rank product cannot."""
        return NO_PLAIN_DORA if settings.dora else ""

    def config(self, settings: Adapter, *, total_steps: int, task_type: str) -> Any:  # noqa: ARG002
        """PEFT's configuration; it does not depend on `total_steps`."""
        from peft import LoraConfig

        return LoraConfig(
            task_type=task_type,
            r=settings.rank,
            lora_alpha=settings.alpha,
            use_rslora=settings.rslora,
            use_dora=settings.dora,
            lora_dropout=settings.dropout,
            target_modules=settings.targets,
        )

    def initialise(self, peft: Any, beginning: Beginning) -> None:
        """Initialise the layers from the factors; fuse their forward (see `fusing`), or begin DoRA's magnitudes."""
        super().initialise(peft, beginning)
        if not peft.peft_config[ADAPTER].use_dora:
            fuse(peft)
            return
        for name, layer in _dora_layers(peft).items():
            # PEFT began them before there were factors, and on a base of half precision rounded
            weights = {"lora_A": layer.lora_A[ADAPTER].weight, "lora_B": layer.lora_B[ADAPTER].weight}
            magnitude = layer.lora_magnitude_vector[ADAPTER]
            with torch.no_grad():
                magnitude.update_layer(base_layer=layer.get_base_layer(), scaling=layer.scaling[ADAPTER], **weights)
            if not magnitude.weight.all():
                raise RecipeError(
                    f"adapter.dora: the layer {name} of the base {beginning.base.name} has outputs whose weights are "
                    "all zero, which DoRA cannot scale",
                    next_step="leave adapter.dora out, or that layer out of adapter.targets",
                )

    def norm_scales(self, peft: Any) -> NormScales:
        """Each layer's g, computed by PEFT; a quantized layer is dequantized for it."""
        from peft.utils.integrations import dequantize_module_weight

        found = {}
        with torch.no_grad():
            for name, layer in _dora_layers(peft).items():
                down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
                weight = dequantize_module_weight(layer.get_base_layer()).to(down.dtype)
                magnitude = layer.lora_magnitude_vector[ADAPTER]
                norm = magnitude.get_weight_norm(weight, up @ down, layer.scaling[ADAPTER])
                found[name] = magnitude.weight / norm
        return found

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


METHOD = PLAIN = Lora()
"""The method that a bundle's `lora/` is read as."""


def _dora_layers(peft: Any) -> dict[str, Any]:
    """The layers of a PEFT model that have a magnitude, by their names in the base's model."""
    return {
        name: layer
        for name, layer in peft.get_base_model().named_modules()
        if ADAPTER in getattr(layer, "lora_magnitude_vector", ())
    }


def as_lora(settings: Adapter, rate: float | None) -> tuple[Adapter, float | None]:
    """The same settings as LoRA without DoRA, and the learning rate if it was set for LoRA.

    Args:
        settings: a recipe's `adapter` section.
        rate: its `tune.lr`; None for the method's own.
    """
    plain = settings.model_copy(update={"method": Lora.name, "dora": False})
    return plain, rate if settings.method == Lora.name else None


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
