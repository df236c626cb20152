"""The stack: slots for many LoRA adapters on every linear layer of one base, each row of a batch with its own.

A slot is one contiguous block of memory with all weights of an adapter, so that loading one is a single copy. Layers
see it as strided views. Slot 0 is the bare base. The base's weights never change, so quantized bases work too, and
PEFT's global active adapter is not used.

In decoding, a row stays for many steps of one token. So each row may get a copy of its slot, in row order: one
batched product reads all copies in place, and nothing is gathered from step to step.

All slots have one rank, that of the largest adapter in them; it falls again when that adapter leaves, and ranks above
`max_rank` are refused. So a large adapter costs a bounded amount of memory, and only while it is loaded.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shopfit.adapter.dora_slots import DoraSlots, Rescaling, pack_norm_scales
from shopfit.adapter.kernels import Plan, expand, plan, shrink
from shopfit.adapter.layer_lock import turns_of
from shopfit.base.adaptable import adaptable_layers, linear_layers
from shopfit.base.load import Base
from shopfit.base.shared_inputs import Shared, shared_inputs, tells_rows_apart
from shopfit.errors import BaseError, BundleError
from shopfit.methods import METHODS
from shopfit.methods.method import Factors, NormScales
from shopfit.recipe.schema import Adapter

MAX_RANK = 64  # on all linear layers of smollm2-135m, 32 slots take 2.6 GB; of rank 8, 0.3 GB


@dataclass(slots=True)
class _Group:
    """Layers that read the same input. Their A are stored contiguously, so that one product serves all."""

    names: list[str]
    layers: list[Any]
    width: int
    outs: list[int]
    shared: Shared


@dataclass(frozen=True, slots=True)
class _Views:
    """Views of a group's weights in S slots: A of all layers (S, layers * r, in), and B of each (S, r, out)."""

    down: Tensor
    ups: list[Tensor]


@dataclass(slots=True)
class _Copies:
    """Copies of slots, one a row.

    Args:
        slab: (rows, size).
        views: of each group.
        held: for each row, the slot it is a copy of, and how many adapters that slot had received by then.
    """

    slab: Tensor
    views: list[_Views]
    held: list[tuple[int, int] | None]


class Stack:
    """Slots for adapters on a base.

    Args:
        base: its adaptable layers add the stack's products inside of `rows`, and only there.
        slots: adapters at a time.
        rank: least rank of the slots; it is higher only while an adapter in one of them needs that.
        max_rank: of an adapter; one of a higher rank is refused.

    `tells_rows_apart` says whether rows of different adapters can share a forward on this base.
    """

    def __init__(self, base: Base, slots: int, rank: int = 8, max_rank: int = MAX_RANK) -> None:
        self.slots = slots
        self.max_rank = max_rank
        self._turns = turns_of(base.model)
        self._runner = 0
        self._plan = Plan("bare")
        self._device = base.device
        self._dtype = torch.float32 if base.quantization != "none" else base.model.dtype
        layers = adaptable_layers(base.model)
        self._base_name = base.name
        self._groups = [
            _Group(
                names, [layers[name] for name in names], *_widths([layers[name] for name in names]), Shared(len(names))
            )
            for names in shared_inputs(base.model, layers)
        ]
        self._idle = linear_layers(base.model).keys() - {name for group in self._groups for name in group.names}
        self.tells_rows_apart = tells_rows_apart(base.model, layers)
        self._least = self.rank = min(rank, max_rank)
        self._widths = [width for group in self._groups for width in [group.width] * len(group.layers) + group.outs]
        self._held = [0] * (slots + 1)  # rank of the adapter in each slot
        self._slab = self._slots_of(self.rank)
        self._brought: Counter[int] = Counter()  # number of adapters that each slot has received
        self._dora = DoraSlots(
            [layer for group in self._groups for layer in group.layers],
            [out for group in self._groups for out in group.outs],
            self._device,
        )
        self._rescaling: Rescaling | None = None
        self._copies: _Copies | None
        self.link()

    def _slots_of(self, rank: int) -> Tensor:
        return torch.zeros(self.slots + 1, self.size(rank), dtype=self._dtype, device=self._device)

    def link(self) -> None:
        """Point the layers at the slots anew: needed when `requires_grad` of the slots changes."""
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
        return rank * sum(self._widths)

    def pack(self, factors: Factors, name: str, norm_scales: NormScales | None = None) -> "Packed":
        """Pack an adapter in a slot's memory layout, on the CPU.

        Args:
            factors: its weights.
            name: of the adapter, for messages.
            norm_scales: of DoRA, by which the factors' B are multiplied already.

        Raises:
            BaseError: if it has weights for a layer that the base does not have, or of another shape.
            BundleError: if its rank is above `max_rank`, or weights or their products are not finite in the slots.
        """
        rank = max((down.shape[0] for down, _ in factors.values()), default=1)
        if rank > self.max_rank:
            raise BundleError(
                f"the adapter {name} has rank {rank} (allowed here: 1 to {self.max_rank}, max_rank of the engine)",
                next_step=f"make the engine with max_rank={rank}, which gives every slot room for it, "
                "or train the adapter with a smaller adapter.rank",
            )
        # numpy asks the kernel for huge pages: touching 10 MB for the first time takes half as long, or less
        flat = torch.from_numpy(np.empty(self.size(rank), np.float32)).to(self._dtype)
        at, missing = 0, set(factors) - self._idle  # what never runs on text has no effect

        def lay(weights: Tensor | None, width: int, layer: str) -> None:
            nonlocal at
            first, at = at, at + rank * width
            laid = first
            if weights is not None:
                laid += weights.shape[0] * weights.shape[1]
                self._check_shape(weights, (rank, width), layer, name)
                flat[first:laid].view(weights.shape).copy_(weights)
            if laid < at:
                flat[laid:at] = 0

        for group in self._groups:
            for layer in group.names:
                lay(factors[layer][0] if layer in factors else None, group.width, layer)
            for layer, out in zip(group.names, group.outs, strict=True):
                lay(factors[layer][1].T if layer in factors else None, out, layer)
            missing -= set(group.names)
        if missing:
            raise BaseError(
                f"the adapter {name} has weights for {min(missing)}, which the base {self._base_name} has not",
                next_step="train it again on this base",
            )
        # one norm of all weights is enough for ordinary ones: |B A x| <= |B| |A| <= |A|^2 + |B|^2 for any x of length 1
        if not float(torch.linalg.vector_norm(flat, dtype=torch.float32)) ** 2 <= torch.finfo(self._dtype).max:
            check_finite(factors, self._dtype, name)
        if not norm_scales:
            return Packed(rank, flat)
        outs = {layer: out for group in self._groups for layer, out in zip(group.names, group.outs, strict=True)}
        return Packed(rank, flat, pack_norm_scales(norm_scales, outs, self._dtype, name))

    def _check_shape(self, weights: Tensor, shape: tuple[int, int], layer: str, name: str) -> None:
        rows, width = weights.shape
        if width != shape[1] or rows > shape[0]:
            raise BaseError(
                f"the adapter {name} has weights of shape {tuple(weights.shape)} for {layer}, "
                f"which takes (rank, {shape[1]}) on the base {self._base_name}",
                next_step="train it again on this base",
            )

    def put(self, slot: int, packed: "Packed") -> None:
        """Copy an adapter into a slot. No forward may run meanwhile.

        Args:
            slot: 1 to `slots`.
            packed: from `pack`.
        """
        before, others = self._held[slot], max(self._held[:slot] + self._held[slot + 1 :])
        needed = max(self._least, packed.rank, others)
        if needed > self.rank or 2 * needed <= self.rank:
            self._resize(needed)
        self._dora.put(slot, packed.beyond)
        self._brought[slot] += 1
        self._held[slot] = packed.rank
        if packed.rank == self.rank:
            self._slab[slot].copy_(packed.flat)
            return
        numbers = self._slab[slot]
        for here, there, width in self._blocks(self.rank, packed.rank):
            end = here + packed.rank * width
            numbers[here:end] = packed.flat[there : there + packed.rank * width]
            numbers[end : here + before * width] = 0

    def take_out(self, slot: int) -> None:
        """Set a slot to zero. No forward may run meanwhile.

        Args:
            slot: 1 to `slots`.
        """
        self.put(slot, Packed(0, self._slab.new_empty(0)))

    def _blocks(self, one: int, other: int) -> Iterator[tuple[int, int, int]]:
        """For each matrix: its offset in a slot of one rank and of the other, and its width."""
        at = 0
        for width in self._widths:
            yield one * at, other * at, width
            at += width

    def _resize(self, rank: int) -> None:
        """Change the rank of all slots; if memory does not suffice, they stay as they are."""
        slab, kept = self._slots_of(rank), min(rank, self.rank)
        for here, there, width in self._blocks(rank, self.rank):
            slab[:, here : here + kept * width] = self._slab[:, there : there + kept * width]
        self.rank, self._slab = rank, slab
        self.link()

    @contextmanager
    def rows(self, slots: Sequence[int], *, decoding: bool = False) -> Iterator[None]:
        """A context in which each row of a forward uses its slot.

        Args:
            slots: one a row; 0 for the bare base.
            decoding: whether rows are one token each, and stay for many steps: then each row may get a copy of its
                slot.

        Raises:
            BaseError: if an adapter is being trained on the base, or several adapters cannot share a forward on it
                (see `tells_rows_apart`).
        """
        wanted = plan(slots, device=self._device)
        if not self.tells_rows_apart and wanted.layout in {"grid", "rows"}:
            raise BaseError(
                f"the base {self._base_name} does not keep the rows of a batch apart in each of its layers, so that "
                "rows of different adapters cannot share a forward",
                next_step="run each adapter's rows by themselves",
            )
        if wanted.layout == "bare":
            self._turns.check(self._base_name)
            yield
            return
        with self._turns.forward(self._base_name):
            self._plan, of, self._runner = wanted, self._views, threading.get_ident()
            self._rescaling = self._dora.of(slots)
            if decoding and wanted.layout == "rows" and not self._slab.requires_grad:
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
        """Views of copies of these slots; only rows that changed since the last step are copied."""
        copies = self._copies
        if copies is None or len(copies.held) < len(slots):
            rows = max(len(slots), 0 if copies is None else 2 * len(copies.held))
            # the OS allocates memory on first write, so rows that are never used cost nothing
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
        if threading.get_ident() != self._runner:
            return out  # this thread runs the bare base while another is inside of `rows`
        step = self._plan
        kind = out.dtype
        if self._rescaling is not None:
            out = self._rescaling.apply(layer, out.to(self._dtype))
        low = group.shared.of(place, x, lambda: shrink(x.to(self._dtype), views.down, step))
        low = low[..., place * self.rank : (place + 1) * self.rank]
        if kind != self._dtype:
            return expand(out.to(self._dtype), low, views.ups[place], step).to(kind)
        return expand(out, low, views.ups[place], step)

    @property
    def weights(self) -> Tensor:
        """(slots + 1, size) weights of all slots; row 0 is the bare base and stays zero."""
        return self._slab


@dataclass(frozen=True, slots=True)
class Packed:
    """An adapter in a slot's memory layout.

    Args:
        rank: of every layer; lower ones are padded with zeros.
        flat: all weights, concatenated.
        beyond: of DoRA, (sum of all layers' outputs,): what its factors of the base's outputs are beyond 1.
    """

    rank: int
    flat: Tensor
    beyond: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return self.flat.nbytes + (0 if self.beyond is None else self.beyond.nbytes)


def rank_note(settings: Adapter) -> str:
    """A note for an adapter whose rank is above engines' default `max_rank`; empty if it is not.

    Args:
        settings: a recipe's `adapter` section.
    """
    rank = METHODS[settings.method].slot_rank(settings)
    if rank <= MAX_RANK:
        return ""
    return f"; engines take rank {MAX_RANK} unless they are made with max_rank={rank}"


def check_finite(factors: Factors, dtype: torch.dtype, name: str) -> None:
    """Refuse an adapter with which a row could become NaN or infinite, which could reach other rows of its forward.

    Args:
        factors: its weights.
        dtype: that they are multiplied in.
        name: of the adapter, for messages.

    Raises:
        BundleError: naming the first layer whose numbers, or the product of their norms, are not finite in `dtype`.
    """
    kind, largest = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    for layer, (down, up) in factors.items():
        norms = [float(torch.linalg.vector_norm(part.to(dtype), dtype=torch.float64)) for part in (down, up)]
        if math.isfinite(norms[0] + norms[1]) and norms[0] * norms[1] <= largest:
            continue
        what = f"is not finite in {kind}: the norms of A and B are {norms[0]:.3g} and {norms[1]:.3g}"
        raise BundleError(
            f"the adapter {name} cannot be served: {layer} {what}", next_step="train it again with a lower tune.lr"
        )


def _widths(layers: Sequence[Any]) -> tuple[int, list[int]]:
    """The input width, and the output width of each layer."""
    if isinstance(layers[0], nn.Linear):
        return layers[0].in_features, [layer.out_features for layer in layers]
    return layers[0].nx, [layer.nf for layer in layers]
