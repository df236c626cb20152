"""Supervised contrastive learning (Gunel et al., arXiv:2011.01403): one class near, others far."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad


def contrastive_loss(hidden: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """The loss of a batch, a scalar: the mean over examples that share their class with another one, 0 if none does.

    Args:
        hidden: (B, D) one vector an example, of any length.
        classes: (B,) numbers, equal for examples of one class.
        temperature: cosine similarities are divided by it; above 0.
    """
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    partner = (classes[:, None] == classes) & ~itself  # (B, B)
    partners = partner.sum(1)
    if not bool(partners.any()):
        return hidden.sum() * 0.0
    unit = normalize(hidden.float(), dim=1)
    similarity = unit @ unit.T / temperature  # (B, B)
    log_share = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    losses = -log_share.masked_fill(~partner, 0.0).sum(1) / partners.clamp(min=1)  # (B,)
    return losses.sum() / (partners > 0).sum()


class HiddenStateCapture:
    """Keeps the backbone's hidden states of the forwards that other code runs over a batch.

    Args:
        backbone: gives `last_hidden_state`.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._states: list[Tensor] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """The states of the forwards inside are kept until they are taken."""
        self._states = []

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._states.append(output.last_hidden_state)

        handle = self._backbone.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def take(self) -> Tensor:
        """(R, T, D) the states of all rows, one forward's after the other's, filled up with zeros to the longest.

        They are forgotten here, so that no finished step stays in memory.

        Raises:
            RuntimeError: if there are none.
        """
        states, self._states = self._states, []
        if not states:
            raise RuntimeError("no states were kept: run a forward inside `open`")
        if len(states) == 1:
            return states[0]
        longest = max(part.shape[1] for part in states)
        return torch.cat([pad(part, (0, 0, 0, longest - part.shape[1])) for part in states])
