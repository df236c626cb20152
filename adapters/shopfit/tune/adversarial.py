"""Adversarial training: the fast gradient method on embeddings (Miyato et al., arXiv:1605.07725)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Push:
    """Moves the embeddings of a batch by epsilon * g / |g|, where g is the loss's gradient with respect to them.

    The paper scales embeddings to unit variance; here epsilon is in units of their standard deviation, which is
    equivalent and leaves the base's embeddings as they are. The norm is taken over all positions of an example
    together.

    Args:
        embedding: the base's input embedding; only its output is ever changed, and only inside `watched` and `applied`.
        epsilon: above 0.
    """

    def __init__(self, embedding: Any, epsilon: float) -> None:
        self._embedding = embedding
        self._size = epsilon * float(embedding.weight.detach().float().std())
        self._embedded: list[Tensor] = []  # (B, T, D) of each forward; the backward pass gives them their gradients

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The embeddings of the forwards inside are remembered; the backward pass after them finds their gradients."""
        self._embedded = []

        def remember(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if not output.requires_grad:  # a frozen embedding has no graph: start one at its output
                output = output.detach().requires_grad_()
            output.retain_grad()
            self._embedded.append(output)
            return output

        with self._hooked(remember):
            yield

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The same forwards, over the same batch, run on the perturbed embeddings."""
        pushes = iter(self.pushes())
        self._embedded = []
        with self._hooked(lambda _module, _inputs, output: output + next(pushes)):
            yield

    def pushes(self) -> list[Tensor]:
        """(B, T, D) what is added in each forward: of one norm for every row, zero where its gradient is zero.

        Raises:
            RuntimeError: before a watched forward and its backward pass.
        """
        if not self._embedded or any(embedded.grad is None for embedded in self._embedded):
            raise RuntimeError("no gradient of the embeddings is known: run a watched forward and its backward first")
        return [self._push(embedded) for embedded in self._embedded]

    def _push(self, embedded: Tensor) -> Tensor:
        assert embedded.grad is not None
        gradient = embedded.grad.float()
        norm = gradient.flatten(1).norm(dim=1)[:, None, None]
        push = torch.where(norm > 0, self._size * gradient / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)
        return push.to(embedded.dtype)

    @contextmanager
    def _hooked(self, hook: Any) -> Iterator[None]:
        handle = self._embedding.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
