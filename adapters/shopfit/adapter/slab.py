"""The slots of a stack on one device: a block of memory for each, and the layers that see it as strided views."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shopfit.adapter.dora_slots import DoraSlots
from shopfit.base.shared_inputs import Shared


@dataclass(slots=True)
class Group:
    """Layers that read the same input. Their A are stored contiguously, so that one product serves all."""

    names: list[str]
    layers: list[Any]
    width: int
    outs: list[int]
    shared: Shared


@dataclass(frozen=True, slots=True)
class Views:
    """Views of a group's weights in S slots: A of all layers (S, layers * r, in), and B of each (S, r, out)."""

    down: Tensor
    ups: list[Tensor]


@dataclass(slots=True)
class _Copies:
    """Copies of slots, one a row.

    Args:
        memory: (rows, size).
        views: of each group.
        held: for each row, the slot it is a copy of, and how many adapters that slot had received by then.
    """

    memory: Tensor
    views: list[Views]
    held: list[tuple[int, int] | None]


class Slab:
    """Slots for the layers that lie on one device.

    Args:
        groups: of these layers.
        slots: adapters at a time.
        rank: of the slots.
        dtype: of their numbers.
        device: where the layers are.
    """

    def __init__(
        self, groups: Sequence[Group], slots: int, rank: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.groups, self.device, self.rank = list(groups), device, rank
        layers = [layer for group in groups for layer in group.layers]
        self.dora = DoraSlots(layers, [out for group in groups for out in group.outs], device)
        self._widths = [width for group in groups for width in [group.width] * len(group.layers) + group.outs]
        self._slots, self._dtype = slots, dtype
        self._brought: Counter[int] = Counter()  # number of adapters that each slot has received
        self._copies: _Copies | None
        self.gradients: Tensor | None = None
        self.weights = self._empty(rank)
        self.link()

    def _empty(self, rank: int) -> Tensor:
        return torch.zeros(self._slots + 1, self.size(rank), dtype=self._dtype, device=self.device)

    def link(self) -> None:
        """Point the layers at the slots anew: needed when the slots' numbers were changed from outside."""
        self.views, self._copies = self._views_of(self.weights), None
        if self.gradients is not None:
            self._collect(self.gradients)

    def train(self) -> None:
        """From now on backward passes add to `gradients`, which is laid out as the slots are."""
        self.gradients = torch.zeros_like(self.weights)
        self.link()

    def _collect(self, gradients: Tensor) -> None:
        # each view is a leaf: the gradient of one that is cut out of the slots would be as large as all slots
        for views, into in zip(self.views, self._views_of(gradients), strict=True):
            for weight, gradient in zip((views.down, *views.ups), (into.down, *into.ups), strict=True):
                weight.requires_grad_().grad = gradient

    def _views_of(self, memory: Tensor) -> list[Views]:
        at, found = 0, []

        def view(rows: int, columns: int) -> Tensor:
            nonlocal at
            first, at = at, at + rows * columns
            return memory[:, first:at].view(-1, rows, columns)

        for group in self.groups:
            down = view(len(group.layers) * self.rank, group.width)
            found.append(Views(down, [view(self.rank, out) for out in group.outs]))
        return found

    def size(self, rank: int) -> int:
        """Numbers in a slot for adapters of `rank`."""
        return rank * sum(self._widths)

    def put(self, slot: int, flat: Tensor, rank: int, before: int) -> None:
        """Copy an adapter into a slot.

        Args:
            slot: 1 or more.
            flat: its weights of these layers, in the layout of `rank`.
            rank: of the adapter, at most that of the slots.
            before: of the adapter that was in the slot.
        """
        self._brought[slot] += 1
        if rank == self.rank:
            self.weights[slot].copy_(flat)
            return
        numbers = self.weights[slot]
        for here, there, width in self._blocks(self.rank, rank):
            end = here + rank * width
            numbers[here:end] = flat[there : there + rank * width]
            numbers[end : here + before * width] = 0

    def resized(self, rank: int) -> Tensor:
        """The same slots with room for another rank. What they hold beyond it is gone."""
        weights, kept = self._empty(rank), min(rank, self.rank)
        for here, there, width in self._blocks(rank, self.rank):
            weights[:, here : here + kept * width] = self.weights[:, there : there + kept * width]
        return weights

    def take(self, weights: Tensor, rank: int) -> None:
        """Use what `resized` returned."""
        self.rank, self.weights = rank, weights
        self.gradients = None if self.gradients is None else torch.zeros_like(weights)
        self.link()

    def _blocks(self, one: int, other: int) -> Iterator[tuple[int, int, int]]:
        """For each matrix: its offset in a slot of one rank and of the other, and its width."""
        at = 0
        for width in self._widths:
            yield one * at, other * at, width
            at += width

    def copied(self, slots: Sequence[int]) -> list[Views]:
        """Views of copies of these slots; only rows that changed since the last step are copied."""
        copies = self._copies
        if copies is None or len(copies.held) < len(slots):
            rows = max(len(slots), 0 if copies is None else 2 * len(copies.held))
            # the OS allocates memory on first write, so rows that are never used cost nothing
            memory = torch.empty(rows, self.weights.shape[1], dtype=self._dtype, device=self.device)
            copies = self._copies = _Copies(memory, self._views_of(memory), [None] * rows)
        for row, slot in enumerate(slots):
            wanted = (slot, self._brought[slot])
            if copies.held[row] != wanted:
                copies.memory[row].copy_(self.weights[slot])
                copies.held[row] = wanted
        return copies.views
