"""The fast gradient method on embeddings (Miyato et al., arXiv:1605.07725): examples pushed where it hurts most."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Push:
    """Moves the embeddings of a batch by epsilon * g / |g|, where g is the loss's gradient with respect to them.

    The paper scales embeddings to unit variance; here epsilon is in units of their standard deviation, which says the
    same of a base whose embeddings may not be touched. The norm is taken over all positions of an example together.

    Args:
        embedding: the base's input embedding; only its output is ever changed, and only inside `watched` and `applied`.
        epsilon: above 0.
    """

    def __init__(self, embedding: Any, epsilon: float) -> None:
        self._embedding = embedding
        self._size = epsilon * float(embedding.weight.detach().float().std())
        self._embedded: Tensor | None = None  # (B, T, D) of the last forward; the backward pass gives it its gradient

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The next forward's embeddings are remembered, and the backward pass after it finds out their gradient."""

        def remember(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            if not output.requires_grad:  # a frozen embedding ends no graph: begin one here
                output = output.detach().requires_grad_()
            output.retain_grad()
            self._embedded = output
            return output

        with self._hooked(remember):
            yield

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The next forward, over the same batch, runs on pushed embeddings."""
        push = self.push()
        self._embedded = None
        with self._hooked(lambda _module, _inputs, output: output + push):
            yield

    def push(self) -> Tensor:
        """(B, T, D) what is added: of the wanted norm for every example, zero where its gradient is zero.

        Raises:
            RuntimeError: before a watched forward and its backward pass.
        """
        if self._embedded is None or self._embedded.grad is None:
            raise RuntimeError("no gradient of the embeddings is known: run a watched forward and its backward first")
        gradient = self._embedded.grad.float()
        norm = gradient.flatten(1).norm(dim=1)[:, None, None]
        push = torch.where(norm > 0, self._size * gradient / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)
        return push.to(self._embedded.dtype)

    @contextmanager
    def _hooked(self, hook: Any) -> Iterator[None]:
        handle = self._embedding.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
