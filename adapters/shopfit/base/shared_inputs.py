"""Groups of linear layers that read the same input, such as q, k and v: their low-rank products can be fused."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shopfit.base.output_head import backbone_of


class Shared:
    """A result that the layers of a group compute once: cached from the first layer to the last.

    Args:
        layers: number of layers in the group.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._input: Tensor | None = None
        self._made: Tensor | None = None

    def of(self, place: int, x: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """The result for input `x` in layer number `place`; `make` computes it if it is not cached."""
        if self._made is None or self._input is not x:
            self._input, self._made = x, make()
        made = self._made
        if place == self._layers - 1:
            self.forget()  # frees the memory of a finished step
        return made

    def forget(self) -> None:
        """Drop the cached result, as after a step that did not reach the last layer."""
        self._input = self._made = None


def shared_inputs(model: Any, layers: Mapping[str, nn.Module]) -> list[list[str]]:
    """Group layers by their input in a forward of two tokens.

    Args:
        model: a transformers model; its backbone is run.
        layers: the linear layers in question, by name.

    Returns:
        the names of the layers that ran, in their order, grouped by identical input tensor.
    """
    groups: list[list[str]] = []
    last: list[Any] = [None]  # the tensor itself, so that Python does not reuse its id

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
            backbone_of(model)(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return groups
