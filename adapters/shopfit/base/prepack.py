"""Frozen float32 weights in the blocked layout that is fastest for oneDNN on CPUs.

PyTorch's linear layer passes plain weights to BLAS. Frozen weights are packed once, when the base is loaded; a product
then takes 0.5-0.9 of the time. The plain weights are for the backward pass: they stay if they lie in a mapped file, and
else are unpacked when they are first asked for.
"""

import threading
from collections import Counter
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


class PackedLinear(PrepackedLinear):
    """Only its packed weight is in memory, until the plain one is first read: from then on it has both."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in), unpacked and kept."""
        # a forward without gradients may read it first, and the next one have them
        with _UNPACKING, torch.inference_mode(mode=False):
            if type(self) is PackedLinear:
                weight = nn.Parameter(self.packed.to_dense(), requires_grad=False)
                _become(self, PrepackedLinear)
                self.register_parameter("weight", weight)
        return self._parameters["weight"]  # type: ignore[return-value]

    def _save_to_state_dict(self, *args: Any, **options: Any) -> None:
        _ = self.weight
        super()._save_to_state_dict(*args, **options)


_UNPACKING = threading.Lock()


def _become(layer: nn.Linear, kind: type[nn.Linear]) -> None:
    layer.__class__ = kind


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


def prepack(model: nn.Module, release: Callable[[Tensor], bool] = lambda _: True) -> int:
    """Pack every frozen float32 linear layer on the CPU. The model computes the same, within float tolerance.

    Args:
        model: frozen; its linear layers become `PrepackedLinear`.
        release: called with each weight that is packed. It returns whether the plain weight takes no memory of its own;
            if it does, and no other module has it, it is dropped, and the layer becomes a `PackedLinear`.

    Returns:
        number of packed layers; 0 if this build of PyTorch has no oneDNN.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # torch has no types here
        return 0
    layers = [module for module in model.modules() if type(module) is nn.Linear and _fits(module.weight)]
    layers.sort(key=lambda layer: layer.weight.numel(), reverse=True)  # beside the largest there is least yet
    owners = Counter(id(weight) for module in model.modules() for weight in module._parameters.values())
    for layer in layers:
        _become(layer, PrepackedLinear)
        layer.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        if not release(layer.weight) and owners[id(layer.weight)] == 1:
            del layer.weight
            _become(layer, PackedLinear)
    return len(layers)


def count_weights(model: nn.Module) -> int:
    """Numbers in a model's weights, of packed and rounded ones too.

    Args:
        model: of transformers.
    """
    packed = (module for module in model.modules() if type(module) is PackedLinear)
    return sum(weight.numel() for weight in model.parameters()) + sum(
        layer.in_features * layer.out_features for layer in packed
    )


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
