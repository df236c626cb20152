"""Slots whose adapters are trained: rows of several adapters in one forward, each with gradients of its own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from shopfit.adapter.stack import Stack
from shopfit.base.load import Base
from shopfit.methods.method import Factors


class TrainableStack:
    """Slots for LoRA in training, in float32. B is without its scale, which `rows` takes.

    Args:
        base: that all adapters are on.
        slots: adapters at a time.
        rank: of the slots; adapters of a lower rank are padded with zeros, whose gradients are zero.
    """

    def __init__(self, base: Base, slots: int, rank: int) -> None:
        self._stack = Stack(base, slots, rank=rank, max_rank=rank, dtype=torch.float32)
        self._stack.train()

    @property
    def tells_rows_apart(self) -> bool:
        """Whether rows of different adapters can share a forward on this base."""
        return self._stack.tells_rows_apart

    def put(self, slot: int, factors: Factors, name: str) -> None:
        """Put an adapter into a slot; `name` is for messages.

        Raises:
            BundleError: if its numbers are not finite.
        """
        with torch.no_grad():
            self._stack.put(slot, self._stack.pack(factors, name))
        self.gradient(slot).zero_()

    def clear(self, slot: int) -> None:
        """Set a slot and its gradients to zero."""
        self.numbers(slot).zero_()
        self.gradient(slot).zero_()

    def numbers(self, slot: int) -> Tensor:
        """(size,) all weights of a slot, in the slots' own memory."""
        return self._stack.weights[0][slot]

    def gradient(self, slot: int) -> Tensor:
        """(size,) their gradients, which backward passes add to."""
        return self._stack.gradients[0][slot]

    def factors(self, numbers: Tensor) -> Factors:
        """The factors in a slot's numbers, as views."""
        return self._stack.factors(numbers)

    def rows(self, slots: Sequence[int], scales: Sequence[float]) -> AbstractContextManager[None]:
        """A context in which each row of a forward uses its slot, and its products are scaled."""
        return self._stack.rows(slots, scales=scales)
