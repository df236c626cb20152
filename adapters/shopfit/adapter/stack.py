"""The stack: many adapters beside every linear layer of one base, each row of a batch with its own.

A slot is one stretch of memory that holds all weights of an adapter, so that bringing one in is a single copy. The
layers see it as strided views. Slot 0 is the bare base. Nothing here changes the base's weights, so quantized bases
serve too, and PEFT's global active adapter plays no part.

While answers are written, a row stays for many steps of one token. Then each row has a copy of its slot, in the order
of rows: one product reads all of them where they lie, and nothing is gathered or moved from step to step.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shopfit.adapter.groups import Shared, shared_inputs
from shopfit.adapter.kernels import Plan, expand, plan, shrink
from shopfit.base.load import Base
from shopfit.errors import BaseError

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""An adapter's weights by layer name: A (r, in) and B (out, r), the scale in B."""


@dataclass(slots=True)
class _Group:
    """Layers that read the same input. Their A lie one behind the other, so that one product serves all."""

    names: list[str]
    layers: list[Any]
    width: int
    outs: list[int]
    shared: Shared


@dataclass(frozen=True, slots=True)
class _Views:
    """A group's weights as they lie in S slots: A of all layers (S, layers * r, in), and B of each (S, r, out)."""

    down: Tensor
    ups: list[Tensor]


@dataclass(slots=True)
class _Copies:
    """Copies of slots, one a row.

    Args:
        slab: (rows, size).
        views: of each group.
        held: what each row has: the slot, and how often something had been brought into it.
    """

    slab: Tensor
    views: list[_Views]
    held: list[tuple[int, int] | None]


class Stack:
    """Slots for adapters on a base.

    Args:
        base: its linear layers, the output head excepted, add the stack's products inside of `rows`, and only there.
        slots: adapters at a time.
        rank: largest rank that fits; it grows when an adapter needs more.
    """

    def __init__(self, base: Base, slots: int, rank: int = 8) -> None:
        self.slots = slots
        self._plan = Plan("bare")
        self._device = base.device
        self._dtype = torch.float32 if base.quantization != "none" else base.model.dtype
        head = base.model.get_output_embeddings()
        layers = {name: layer for name, layer in base.model.named_modules() if _is_linear(layer) and layer is not head}
        self._base_name = base.name
        self._groups = [
            _Group(
                names, [layers[name] for name in names], *_widths([layers[name] for name in names]), Shared(len(names))
            )
            for names in shared_inputs(base.model, layers)
        ]
        self.rank = rank
        self._slab = self._slots_of(rank)
        self._brought: Counter[int] = Counter()  # adapters into each slot
        self._copies: _Copies | None
        self.link()

    def _slots_of(self, rank: int) -> Tensor:
        return torch.zeros(self.slots + 1, self.size(rank), dtype=self._dtype, device=self._device)

    def link(self) -> None:
        """Point the layers at the slots anew: needed when the slots begin or cease to require gradients."""
        self._views, self._copies = self._views_of(self._slab), None

    def _views_of(self, slab: Tensor) -> list[_Views]:
        at, found = 0, []

        def view(rows: int, columns: int) -> Tensor:
            nonlocal at
            first, at = at, at + rows * columns
            return slab[:, first:at].view(-1, rows, columns)

        for group in self._groups:
            down = view(len(group.layers) * self.rank, group.width)
            found.append(_Views(down, [view(self.rank, out) for out in group.outs]))
        return found

    def size(self, rank: int) -> int:
        """Numbers in a slot for adapters of `rank`."""
        return sum(rank * (len(group.layers) * group.width + sum(group.outs)) for group in self._groups)

    def pack(self, factors: Factors, name: str) -> "Packed":
        """Lay an adapter out as a slot holds it, on the CPU.

        Args:
            factors: its weights.
            name: of the adapter, for messages.

        Raises:
            BaseError: if it has weights for a layer that the base does not have, or of another shape.
        """
        rank = max((len(down) for down, _ in factors.values()), default=1)
        # numpy asks the kernel for huge pages: touching 10 MB for the first time takes 0.3 ms instead of 2.5 ms or more
        flat = torch.from_numpy(np.zeros(self.size(rank), np.float32)).to(self._dtype)
        at, missing = 0, set(factors)
        for group in self._groups:
            for layer in group.names:
                if layer in factors:
                    self._lay(flat, at, factors[layer][0], (rank, group.width), layer, name)
                at += rank * group.width
            for layer, out in zip(group.names, group.outs, strict=True):
                if layer in factors:
                    self._lay(flat, at, factors[layer][1].T, (rank, out), layer, name)
                at += rank * out
            missing -= set(group.names)
        if missing:
            raise BaseError(
                f"the adapter {name} has weights for {min(missing)}, which the base {self._base_name} has not",
                next_step="train it again on this base",
            )
        return Packed(rank, flat)

    def _lay(self, flat: Tensor, at: int, weights: Tensor, shape: tuple[int, int], layer: str, name: str) -> None:
        if weights.shape[1] != shape[1] or len(weights) > shape[0]:
            raise BaseError(
                f"the adapter {name} has weights of shape {tuple(weights.shape)} for {layer}, "
                f"which takes (rank, {shape[1]}) on the base {self._base_name}",
                next_step="train it again on this base",
            )
        flat[at : at + weights.numel()].view(weights.shape).copy_(weights)

    def put(self, slot: int, packed: "Packed") -> None:
        """Bring an adapter into a slot. No step may run meanwhile.

        Args:
            slot: 1 to `slots`.
            packed: from `pack`.
        """
        if packed.rank > self.rank:
            self._grow(packed.rank)
        self._brought[slot] += 1
        if packed.rank == self.rank:
            self._slab[slot].copy_(packed.flat)
        else:
            self._slab[slot].copy_(self._padded(packed, self.rank))

    def _padded(self, packed: "Packed", rank: int) -> Tensor:
        """The same adapter as a slot of a larger rank."""
        flat = torch.zeros(self.size(rank), dtype=packed.flat.dtype, device=packed.flat.device)
        source = target = 0
        for group in self._groups:
            for width in [group.width] * len(group.layers) + group.outs:
                flat[target : target + packed.rank * width] = packed.flat[source : source + packed.rank * width]
                source += packed.rank * width
                target += rank * width
        return flat

    def _grow(self, rank: int) -> None:
        """All or nothing: where memory does not suffice, the slots stay as they are."""
        slab = self._slots_of(rank)
        for slot in range(1, self.slots + 1):
            slab[slot] = self._padded(Packed(self.rank, self._slab[slot]), rank)
        self.rank, self._slab = rank, slab
        self.link()

    @contextmanager
    def rows(self, slots: Sequence[int], *, decoding: bool = False) -> Iterator[None]:
        """Each row of the forwards inside belongs to its slot.

        Args:
            slots: one a row; 0 for the bare base.
            decoding: whether rows are one token each, and stay for many steps: then they may get copies of their
                slots, which take as much memory as a slot each.
        """
        self._plan, of = plan(slots, device=self._device), self._views
        if self._plan.way == "bare":
            yield
            return
        if decoding and self._plan.way == "rows" and not self._slab.requires_grad:
            self._plan, of = Plan("grid", last=len(slots)), self._copied(slots)
        try:
            for group, views in zip(self._groups, of, strict=True):
                for place, layer in enumerate(group.layers):
                    layer.forward = partial(self._forward, layer, group, views, place)
            yield
        finally:
            for group in self._groups:
                group.shared.forget()
                for layer in group.layers:
                    layer.__dict__.pop("forward", None)

    def _copied(self, slots: Sequence[int]) -> list[_Views]:
        """Views of copies of these slots; only rows that have others than at the last step are copied."""
        copies = self._copies
        if copies is None or len(copies.held) < len(slots):
            rows = max(len(slots), 0 if copies is None else 2 * len(copies.held))
            # the kernel brings memory when it is first written to, so that rows that are never used cost nothing
            slab = torch.empty(rows, self._slab.shape[1], dtype=self._dtype, device=self._device)
            copies = self._copies = _Copies(slab, self._views_of(slab), [None] * rows)
        for row, slot in enumerate(slots):
            wanted = (slot, self._brought[slot])
            if copies.held[row] != wanted:
                copies.slab[row].copy_(self._slab[slot])
                copies.held[row] = wanted
        return copies.views

    def _forward(self, layer: Any, group: _Group, views: _Views, place: int, x: Tensor) -> Tensor:
        out: Tensor = type(layer).forward(layer, x)
        step = self._plan
        low = group.shared.of(place, x, lambda: shrink(x.to(self._dtype), views.down, step))
        low = low[..., place * self.rank : (place + 1) * self.rank]
        if out.dtype != self._dtype:
            return expand(out.to(self._dtype), low, views.ups[place], step).to(out.dtype)
        return expand(out, low, views.ups[place], step)

    @property
    def weights(self) -> Tensor:
        """(slots + 1, size) all slots; row 0 is the bare base and stays zero."""
        return self._slab


@dataclass(frozen=True, slots=True)
class Packed:
    """An adapter laid out as a slot holds it.

    Args:
        rank: of every layer; lower ones are padded with zeros.
        flat: all weights, one behind the other.
    """

    rank: int
    flat: Tensor


def _is_linear(layer: nn.Module) -> bool:
    """Also bitsandbytes' quantized layers, which are linear layers, and transformers' Conv1D of the GPT-2 family."""
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"


def _widths(layers: Sequence[Any]) -> tuple[int, list[int]]:
    """Inputs, and outputs of each layer."""
    if isinstance(layers[0], nn.Linear):
        return layers[0].in_features, [layer.out_features for layer in layers]
    return layers[0].nx, [layer.nf for layer in layers]
