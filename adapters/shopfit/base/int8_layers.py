"""Frozen linear layers of encoders and decoders in int8 on CPUs, over which adapters stay in float32.

Weights are integers of 7 bits with a scale a row, activations of 8 bits with a scale a token: a token's numbers depend
on nothing else in its batch. (Integers of 8 times 8 bits would overflow in the AVX2 product, two of which are summed in
16 bits.) Inputs are divided by a factor a column that the weights are multiplied by, so that a few large columns do
not leave the others without bits (SmoothQuant, arXiv:2211.10438). A base of a third of the memory traffic answers
single texts in two thirds of the time or less.
"""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.base.adaptable import linear_layers
from shopfit.base.shared_inputs import shared_inputs, watch_inputs

ROUNDING = "shopfit-1"
"""Names how weights are rounded here."""

_WEIGHTS, _INPUTS, _ZERO = 63, 127, 128  # largest weight and input as integers, and the integer of the input 0
_SMOOTHING = 0.5  # how much of a column's largeness goes to the weights
_ROWS, _TOKENS = 16, 32  # of what is read to find large columns
_LEAST = 1e-12


class Int8Linear(nn.Linear):
    """A frozen linear layer of integers. Made by `to_int8`, not by hand."""

    product: "_Product"
    first: int
    weight: Tensor
    """(out, in) int8, of zeros that take no memory: for who asks for a layer's shape, type and device."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name nn.Linear gives it
        """(..., in) to (..., out), of the input's type. Backward passes take the weights as they were rounded."""
        last = self.first + self.out_features
        made = self.product.of(input, last=last)[..., self.first : last]
        return made.clone() if made.requires_grad else made  # who adds in place must not touch the others' numbers


class _Product:
    """The product of layers that read the same input, such as q, k and v: it is made with the first, and kept for them.

    Args:
        weights: (out, in) float32 of each layer.
        biases: (out,) of each; None for one without.
        largest: (in,) of each column that they read; None if they read nothing.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], largest: Tensor | None) -> None:
        self.out = sum(len(weight) for weight in weights)
        factors = _factors(largest, weights[0].shape[1])
        self._columns = 1 / factors
        self._packed = _packed(torch.cat(list(weights)) * factors)
        self._bias: Tensor | None = None
        if any(bias is not None for bias in biases):
            pairs = zip(weights, biases, strict=True)
            self._bias = torch.cat([torch.zeros(len(weight)) if bias is None else bias for weight, bias in pairs])
        self._held: tuple[Tensor, Tensor, bool] | None = None  # one object, so that threads see all or nothing

    def of(self, x: Tensor, *, last: int) -> Tensor:
        """(..., in) to (..., out) of all layers.

        Args:
            x: what a layer reads.
            last: the end of its numbers among the product's.
        """
        held, learns = self._held, torch.is_grad_enabled()
        made = held[1] if held is not None and held[0] is x and held[2] == learns else self._made(x)
        self._held = None if last == self.out else (x, made, learns)
        return made

    def _made(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if torch.is_grad_enabled() and rows.requires_grad:
            result: Tensor = _WithGradient.apply(rows, self)  # type: ignore[no-untyped-call] # torch has no types here
        else:
            result = self.computed(rows)
        return result.view(*x.shape[:-1], self.out)

    def computed(self, rows: Tensor) -> Tensor:
        """(N, in) to (N, out)."""
        scaled = rows.float() * self._columns
        peaks = scaled.abs().amax(-1, keepdim=True).clamp_(min=_LEAST)
        result: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            scaled.div_(peaks), 1 / _INPUTS, _ZERO, self._packed
        )
        result = result.mul_(peaks) if self._bias is None else torch.addcmul(self._bias, result, peaks)
        return result.to(rows.dtype)

    def rounded(self) -> Tensor:
        """(out, in) float32, the weights that the products are of."""
        numbers: Tensor = torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()
        return numbers * self._columns


class _WithGradient(torch.autograd.Function):
    """x W^T + b for frozen W and b."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, product: _Product) -> Tensor:
        """(N, in) to (N, out)."""
        ctx.product = product
        return product.computed(rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """(N, out) to (N, in)."""
        return (grads[0].float() @ ctx.product.rounded()).to(grads[0].dtype), None


@cache
def computes_int8() -> bool:
    """Whether this build of PyTorch has the products, on this processor."""
    try:
        product = _Product([torch.eye(16)], [None], None)
        return torch.allclose(product.computed(torch.eye(16)), torch.eye(16), atol=0.02)
    except RuntimeError:
        return False


def rounds(model: Any) -> bool:
    """Whether all of a model's layers can be rounded here: those of the GPT-2 family are of another class."""
    return computes_int8() and all(isinstance(layer, nn.Linear) for layer in linear_layers(model).values())


def to_int8(model: Any, release: Callable[[Tensor], bool] = lambda _: True) -> None:
    """Round every frozen float32 linear layer that a text reaches but the output head. Its plain weight is let go.

    Args:
        model: an encoder or decoder of transformers, on the CPU, in eval mode; its linear layers become `Int8Linear`.
        release: called with each weight that is rounded, to let go of the memory that its file is mapped to.
    """
    named = {name: layer for name, layer in linear_layers(model).items() if type(layer) is nn.Linear}
    read = _inputs(model, named)
    several = {name for name, (times, _) in read.items() if times > 1}
    for group in shared_inputs(model, {name: layer for name, layer in named.items() if name in read}):
        parts = [[name] for name in group] if several & set(group) else [group]
        for part in parts:
            members = [named[name] for name in part]
            product = _Product(
                [layer.weight.detach() for layer in members], [layer.bias for layer in members], read[part[0]][1]
            )
            ends = [0, *accumulate(layer.out_features for layer in members)]
            for layer, first in zip(members, ends[:-1], strict=True):
                release(layer.weight)
                _become(layer, product, first)


def _become(layer: Any, product: _Product, first: int) -> None:
    layer.product, layer.first = product, first
    layer.weight = nn.Parameter(
        torch.zeros(1, dtype=torch.int8).expand(layer.out_features, layer.in_features), requires_grad=False
    )
    layer.__class__ = Int8Linear


def _inputs(model: Any, named: Mapping[str, nn.Linear]) -> dict[str, tuple[int, Tensor]]:
    """Of layers that a forward reaches: how often it does, and (in,) the largest number of each column they read."""
    found: dict[str, tuple[int, Tensor]] = {}

    def note(name: str, read: Tensor) -> None:
        width = named[name].in_features
        times, largest = found.get(name, (0, torch.zeros(width)))
        rows = read.reshape(-1, width).abs()
        found[name] = times + 1, torch.maximum(largest, rows.amax(0)) if len(rows) else largest

    watch_inputs(model, named, _texts(int(model.get_input_embeddings().weight.shape[0])), note)
    return found


def _texts(vocabulary: int) -> Tensor:
    """(R, T) tokens, the same for every load of a base."""
    drawn = random.Random(vocabulary)
    return torch.tensor([[drawn.randrange(vocabulary) for _ in range(_TOKENS)] for _ in range(_ROWS)])


def _factors(largest: Tensor | None, width: int) -> Tensor:
    """(in,) what columns are divided by: powers of two, which last bits of activations do not decide. 1 for layers that
    read nothing, or nothing but zeros or what is not finite.
    """
    if largest is None or not largest.isfinite().all() or not (largest > 0).any():
        return torch.ones(width)
    usual = largest[largest > 0].median()
    return (largest.clamp(min=usual / 100) / usual).log2().mul(_SMOOTHING).round().exp2()


def _packed(weight: Tensor) -> Any:
    """A weight in the layout that products read."""
    scales = weight.abs().amax(1).clamp_(min=_LEAST) / _WEIGHTS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch means to let these tensors go one day
        numbers = torch.quantize_per_channel(
            weight.contiguous(), scales.double(), torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8
        )
        return torch.ops.quantized.linear_prepack(numbers, None)
