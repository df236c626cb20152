"""Supervised contrastive learning (Gunel et al., arXiv:2011.01403): one class near, others far."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


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
    """Keeps the backbone's hidden states of a forward that other code runs.

    Args:
        backbone: gives `last_hidden_state`.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._states: Tensor | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """The states of the next forward are kept until they are taken."""

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._states = output.last_hidden_state

        handle = self._backbone.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def take(self) -> Tensor:
        """(R, T, D) the states of the last forward; they are forgotten here, so that no finished step stays in memory.

        Raises:
            RuntimeError: if there are none.
        """
        if self._states is None:
            raise RuntimeError("no states were kept: run a forward inside `open`")
        states, self._states = self._states, None
        return states
