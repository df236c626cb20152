"""Frozen float32 weights in the blocked layout that is fastest for oneDNN on CPUs.

PyTorch's linear layer passes plain weights to BLAS. Frozen weights are packed once, when the base is loaded; a product
then takes 0.5-0.9 of the time. The plain weights stay for the backward pass.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class PrepackedLinear(nn.Linear):
    """A frozen linear layer that also holds its weight in oneDNN's layout. Made by `prepack`, not by hand."""

    packed: Tensor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Linear gives it
        """Compute as `nn.Linear`, within float tolerance; with the plain weights if the packed ones do not apply."""
        if input.device.type != "cpu" or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        if torch.is_grad_enabled() and input.requires_grad:
            # flattened outside, as the function must not return a view: PEFT adds onto the result in place
            rows: Tensor = _Product.apply(input.flatten(0, -2), self.weight, self.packed, self.bias)  # type: ignore[no-untyped-call] # torch has no types here
            return rows.view(*input.shape[:-1], self.out_features)
        return _product(input, self.packed, self.bias)


class _Product(torch.autograd.Function):
    """x W^T + b for frozen W and b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        """(N, in) to (N, out)."""
        ctx.save_for_backward(weight)
        return _product(x, packed, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """(N, out) to (N, in)."""
        (weight,) = ctx.saved_tensors
        return grads[0] @ weight, None, None, None


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return result


def prepack(model: nn.Module, release: Callable[[Tensor], None] = lambda _: None) -> int:
    """Pack every frozen float32 linear layer on the CPU. The model computes the same, within float tolerance.

    Args:
        model: frozen; its linear layers become `PrepackedLinear`.
        release: called with each weight that is packed.

    Returns:
        number of packed layers; 0 if this build of PyTorch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch has no types here
        return 0
    layers = [module for module in model.modules() if type(module) is nn.Linear and _fits(module.weight)]
    layers.sort(key=lambda layer: layer.weight.numel(), reverse=True)  # beside the largest there is least yet
    for layer in layers:
        layer.__class__ = PrepackedLinear
        layer.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        release(layer.weight)
    return len(layers)


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
