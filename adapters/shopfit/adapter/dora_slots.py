"""DoRA in the slots of a stack: the base's outputs, times a constant, for the rows of such adapters.

DoRA computes g (W x + B A x) + bias (see `methods.lora`). The stack holds A and g B as of any LoRA; what is left is to
multiply the base's own output by g. Other adapters' rows are not touched, and a batch without DoRA is not slower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shopfit.adapter.kernels import rescale
from shopfit.errors import BaseError, BundleError
from shopfit.methods.method import NormScales


@dataclass(frozen=True, slots=True)
class Rescaling:
    """What to multiply in a batch of B rows. Made by `DoraSlots.of`.

    Args:
        count: B.
        rows: (N,) places of the rows with DoRA; None for all of them.
        beyond: of each layer, (N, out) or (1, out): g - 1.
    """

    count: int
    rows: Tensor | None
    beyond: Mapping[Any, Tensor]

    def apply(self, layer: Any, out: Tensor) -> Tensor:
        """A layer's output with DoRA's rows multiplied; in place when gradients are disabled.

        Args:
            layer: whose output it is.
            out: (B, T, out), or (B, out), as the base computed it.
        """
        return rescale(out, layer.bias, self.beyond[layer], self.rows, self.count)


class DoraSlots:
    """DoRA's factors in the slots that need them. Memory is taken for those alone.

    Args:
        layers: of the base, that have slots.
        outs: the output width of each.
        device: of the stack.
    """

    def __init__(self, layers: Sequence[Any], outs: Sequence[int], device: torch.device) -> None:
        self._layers, self._outs, self._device = layers, outs, device
        self._held: dict[int, Tensor] = {}
        self._last: tuple[tuple[int, ...], Rescaling] | None = None  # in decoding, rows stay for many steps

    @property
    def size(self) -> int:
        """Sum of all outs."""
        return sum(self._outs)

    def put(self, slot: int, beyond: Tensor | None) -> None:
        """Set the factors of a slot.

        Args:
            slot: 1 or more.
            beyond: (sum of all outs,) g - 1 of every layer in turn; None for an adapter that is not DoRA.
        """
        if beyond is None:
            self._held.pop(slot, None)
        else:
            self._held[slot] = beyond.to(self._device)
        self._last = None

    def of(self, slots: Sequence[int]) -> Rescaling | None:
        """What to multiply in a batch whose rows use these slots; None if none of them holds DoRA."""
        rows = [row for row, slot in enumerate(slots) if slot in self._held] if self._held else []
        if not rows:
            return None
        key = tuple(slots)
        if self._last is None or self._last[0] != key:
            used = [slots[row] for row in rows]
            alike = len(set(used)) == 1
            beyond = torch.stack([self._held[slot] for slot in (used[:1] if alike else used)])
            where = None if len(rows) == len(slots) else torch.tensor(rows, device=self._device)
            parts = torch.split(beyond, list(self._outs), dim=1)
            self._last = key, Rescaling(len(slots), where, dict(zip(self._layers, parts, strict=True)))
        return self._last[1]


def pack_norm_scales(norm_scales: NormScales, outs: Mapping[str, int], dtype: torch.dtype, name: str) -> Tensor:
    """DoRA's factors of all layers in turn, as a slot holds them, on the CPU.

    Args:
        norm_scales: g of some layers.
        outs: the output width of every layer, by name, in the stack's order.
        dtype: that they are multiplied in.
        name: of the adapter, for messages.

    Returns:
        (sum of all outs,) g - 1; 0 for a layer without DoRA.

    Raises:
        BaseError: if one has another width than its layer.
        BundleError: if the norm of a layer's is not finite in `dtype`, so that a row could become NaN or infinite.
    """
    parts = []
    for layer, out in outs.items():
        scales = norm_scales.get(layer)
        if scales is None:
            parts.append(torch.zeros(out))
            continue
        if scales.shape != (out,):
            raise BaseError(
                f"the adapter {name} has DoRA's factors of shape {tuple(scales.shape)} for {layer}, "
                f"which has {out} outputs on this base",
                next_step="train it again on this base",
            )
        if not float(torch.linalg.vector_norm(scales.to(dtype), dtype=torch.float64)) <= torch.finfo(dtype).max:
            kind = str(dtype).removeprefix("torch.")
            raise BundleError(
                f"the adapter {name} cannot be served: DoRA's factors of {layer} are not finite in {kind}",
                next_step="train it again with a lower tune.lr",
            )
        parts.append(scales.float() - 1)
    return torch.cat(parts).to(dtype)
