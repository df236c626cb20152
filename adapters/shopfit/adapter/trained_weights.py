"""Weights in training: they are copied, put back, and set to a part of the way that they have gone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shopfit.signals import held_back


class TrainedWeights(ABC):
    """What a training changes."""

    @abstractmethod
    def parameters(self) -> Iterator[nn.Parameter]:
        """The trainable parameters."""

    def up_projections(self) -> list[nn.Parameter]:
        """Those of the trainable parameters that are the B of a product B A, where they can be told apart."""
        return []

    def settled(self, step: int) -> bool:  # noqa: ARG002 - AdaLoRA settles late
        """Whether the weights after `step` may be the final ones; AdaLoRA's may only after its ranks are pruned."""
        return True

    def averages(self) -> dict[str, Tensor]:
        """What later steps follow from beside the weights, by name; empty for all but AdaLoRA."""
        return {}

    def put_averages(self, averages: Mapping[str, Tensor]) -> None:  # noqa: ARG002 - only AdaLoRA has some
        """Put back what `averages` returned."""
        return

    def state(self) -> list[Tensor]:
        """A copy of the trained weights, on the CPU."""
        return [weight.detach().to("cpu", copy=True) for weight in self.parameters()]

    def restore(self, state: Sequence[Tensor]) -> None:
        """Put back what `state` returned."""
        with torch.no_grad():
            for weight, kept in zip(self.parameters(), state, strict=True):
                weight.copy_(kept)

    def interpolate(self, origin: Sequence[Tensor], share: float) -> None:
        """Set the weights to origin + share * (weights - origin) (WiSE-FT, arXiv:2109.01903).

        Args:
            origin: an earlier `state`.
            share: above 0, to 1; 1 changes nothing.
        """
        if share == 1:
            return
        with torch.no_grad():
            for weight, before in zip(self.parameters(), origin, strict=True):
                between = torch.lerp(before.to(weight.device), weight, share)
                weight.copy_(torch.where(weight == 0, 0, between))  # what AdaLoRA has pruned stays pruned

    @contextmanager
    def interpolated(self, origin: Sequence[Tensor], share: float) -> Iterator[None]:
        """A context with the weights interpolated, for evaluation; afterwards they are as before."""
        if share == 1:
            yield
            return
        end = self.state()
        try:
            self.interpolate(origin, share)
            yield
        finally:
            with held_back():  # else a signal could leave some of them behind
                self.restore(end)
