"""Which linear layers of a model read the same input, such as q, k and v: their low-rank products can be one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Shared:
    """What layers that read the same input compute once: kept from the first of them to the last.

    Args:
        layers: how many they are.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._input: Tensor | None = None
        self._made: Tensor | None = None

    def of(self, place: int, x: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """The result for input `x`; layer `place` asks, and `make` computes it if it is not there."""
        if self._made is None or self._input is not x:
            self._input, self._made = x, make()
        made = self._made
        if place == self._layers - 1:
            self.forget()  # nothing of a finished step stays alive
        return made

    def forget(self) -> None:
        """Drop what is kept, such as after a step that did not reach the last layer."""
        self._input = self._made = None


def shared_inputs(model: Any, layers: Mapping[str, nn.Module]) -> list[list[str]]:
    """Find out by one forward of two tokens.

    Args:
        model: a transformers model; its backbone is run.
        layers: the linear layers in question, by name.

    Returns:
        the names of those that ran, in the order they ran, those with the very same input together.
    """
    groups: list[list[str]] = []
    last: list[Any] = [None]  # the tensor itself, so that its identity is not given to another one

    def watch(name: str) -> Any:
        def before(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args[0] is last[0]:
                groups[-1].append(name)
            else:
                groups.append([name])
                last[0] = args[0]

        return before

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.base_model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return groups
