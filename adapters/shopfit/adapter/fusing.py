"""PEFT's LoRA layers, run with fewer and larger products while they are trained.

PEFT owns the weights and everything about them; only the arithmetic is ours. Layers that read the same input (q, k, v;
gate, up) share one product with all their A, and B is added onto the base's output in the product itself.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.adapter.groups import shared_inputs

ADAPTER = "default"  # what PEFT calls the adapter that is trained


class _Group:
    """Layers that read the same input, and what they made of the last one."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self._input: Tensor | None = None
        self._parts: list[Tensor] = []

    def low(self, place: int, x: Tensor) -> Tensor:
        """(N, r) of layer `place`: input rows times its A."""
        if self._input is not x:
            downs = [layer.lora_A[ADAPTER].weight for layer in self.layers]
            dropped = self.layers[0].lora_dropout[ADAPTER](x.to(downs[0].dtype))
            low = dropped.flatten(0, -2) @ torch.cat(downs).T
            self._input, self._parts = x, list(low.split([len(down) for down in downs], dim=1))
        part = self._parts[place]
        if place == len(self.layers) - 1:
            self._input, self._parts = None, []  # nothing of a finished step stays alive
        return part


def fuse(peft: Any) -> None:
    """Give the LoRA layers of a PEFT model the fused arithmetic. `unload` takes it off together with the layers.

    Args:
        peft: PEFT's model with one LoRA adapter, called "default", without DoRA or biases.
    """
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {
        name: layer for name, layer in peft.get_base_model().named_modules() if isinstance(layer, LoraLayer)
    }
    for names in shared_inputs(peft.get_base_model(), layers):
        group = _Group([layers[name] for name in names])
        for place, name in enumerate(names):
            layers[name].forward = partial(_forward, layers[name], group, place)


def _forward(layer: Any, group: _Group, place: int, x: Tensor) -> Tensor:
    base: Tensor = layer.base_layer(x)
    up: nn.Parameter = layer.lora_B[ADAPTER].weight
    low = group.low(place, x)
    fused = torch.addmm(base.flatten(0, -2), low.to(base.dtype), up.T.to(base.dtype), alpha=layer.scaling[ADAPTER])
    return fused.view_as(base)
