"""Fused forward of PEFT's LoRA layers in training: fewer and larger matrix products.

PEFT owns the weights; only the forward is replaced. Layers that read the same input (q, k, v;
gate, up) share one product with all their A, and B is added onto the base's output in the product itself.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.base.shared_inputs import Shared, shared_inputs
from shopfit.methods.method import ADAPTER


def fuse(peft: Any) -> None:
    """Replace the forward of a PEFT model's LoRA layers by the fused one. PEFT's `unload` removes it with the layers.

    Args:
        peft: PEFT's model with one LoRA adapter, called "default", without DoRA or biases.
    """
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {
        name: layer for name, layer in peft.get_base_model().named_modules() if isinstance(layer, LoraLayer)
    }
    for names in shared_inputs(peft.get_base_model(), layers):
        group = [layers[name] for name in names]
        shared = Shared(len(group))
        for place, layer in enumerate(group):
            layer.forward = partial(_forward, group, place, shared)


def _forward(group: list[Any], place: int, shared: Shared, x: Tensor) -> Tensor:
    layer = group[place]
    base: Tensor = layer.base_layer(x)
    ranks = [len(_down(other)) for other in group]
    low = torch.split(shared.of(place, x, lambda: _low(group, x)), ranks, dim=1)[place]
    up: nn.Parameter = layer.lora_B[ADAPTER].weight
    fused = torch.addmm(base.flatten(0, -2), low.to(base.dtype), up.T.to(base.dtype), alpha=layer.scaling[ADAPTER])
    return fused.view_as(base)


def _low(group: list[Any], x: Tensor) -> Tensor:
    """(N, r of all layers): input rows times every A. One dropout mask is shared by all layers."""
    dropped = group[0].lora_dropout[ADAPTER](x.to(_down(group[0]).dtype))
    low: Tensor = dropped.flatten(0, -2) @ torch.cat([_down(layer) for layer in group]).T
    return low


def _down(layer: Any) -> Tensor:
    weight: Tensor = layer.lora_A[ADAPTER].weight
    return weight
