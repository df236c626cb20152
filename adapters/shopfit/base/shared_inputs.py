"""What linear layers read: which of them the same input, such as q, k and v, and whether each row of a batch its own.

The low-rank products of layers that read the same input can be fused; rows with different adapters can share a forward
if every layer reads them one after another.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shopfit.base import encoder_decoder
from shopfit.base.output_head import backbone_of

Made = TypeVar("Made")


class Shared:
    """A result that the layers of a group compute once: cached from the first layer to the last.

    Args:
        layers: number of layers in the group.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._input: Tensor | None = None
        self._made: Any = None

    def of(self, place: int, x: Tensor, make: Callable[[], Made]) -> Made:
        """The result for input `x` in layer number `place`; `make` computes it if it is not cached."""
        if self._made is None or self._input is not x:
            self._input, self._made = x, make()
        made: Made = self._made
        if place == self._layers - 1:
            self.forget()  # frees the memory of a finished step
        return made

    def forget(self) -> None:
        """Drop the cached result, as after a step that did not reach the last layer."""
        self._input = self._made = None


def inputs_of(model: Any, layers: Mapping[str, nn.Module], tokens: Tensor) -> list[tuple[str, Tensor]]:
    """What layers read in a forward of the backbone; of a model with an encoder, which reads the same tokens first.

    Args:
        model: a transformers model.
        layers: the layers in question, by name.
        tokens: (B, T).

    Returns:
        the name and the input tensor of each of their forwards, in their order.
    """
    found: list[tuple[str, Tensor]] = []
    watch_inputs(model, layers, tokens, lambda name, read: found.append((name, read)))
    return found


def watch_inputs(
    model: Any, layers: Mapping[str, nn.Module], tokens: Tensor, note: Callable[[str, Tensor], object]
) -> None:
    """Be told what layers read in a forward of the backbone, as `inputs_of` lists it.

    Args:
        model, layers, tokens: as for `inputs_of`.
        note: told the name and the input of each forward of a layer, in their order.
    """

    def watch(name: str) -> Any:
        return lambda _, args: note(name, args[0])

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                mask = torch.ones_like(tokens)
                encoder_decoder.write(model, tokens, encoder_decoder.read(model, tokens, mask), mask)
            else:
                backbone_of(model)(input_ids=tokens)
    finally:
        for hook in hooks:
            hook.remove()


def shared_inputs(model: Any, layers: Mapping[str, nn.Module]) -> list[list[str]]:
    """Group layers by their input in a forward of two tokens.

    Args:
        model: a transformers model; its backbone is run.
        layers: the linear layers in question, by name.

    Returns:
        the names of the layers that ran, in their order, grouped by identical input tensor; one that runs several times
        is grouped by its first.
    """
    device = next(model.parameters()).device
    groups: list[list[str]] = []
    seen: set[str] = set()
    last: Tensor | None = None
    for name, read in inputs_of(model, layers, torch.zeros(1, 2, dtype=torch.long, device=device)):
        if name in seen:
            last = None
            continue
        seen.add(name)
        if read is last:
            groups[-1].append(name)
        else:
            groups.append([name])
            last = read
    return groups


def tells_rows_apart(model: Any, layers: Mapping[str, nn.Module]) -> bool:
    """Whether each layer reads the rows of a batch one after another, and of each just what it reads of it alone.

    Others are layers that read tokens first, or mix texts, or read what is of no row, as DeBERTa's read positions.

    Args:
        model: a transformers model; its backbone is run on three rows, and on the second one alone.
        layers: the linear layers in question, by name.
    """
    embedding = model.get_input_embeddings().weight
    rows = torch.arange(_ROWS * _TOKENS, device=embedding.device).remainder(len(embedding)).view(_ROWS, _TOKENS)
    together, alone = ([read for _, read in inputs_of(model, layers, part)] for part in (rows, rows[1:2]))
    return len(together) == len(alone) and all(map(_is_second, together, alone))


_ROWS, _TOKENS = 3, 5
_UNLIKE = 0.3  # relative difference from which numbers are not the same input, however they are rounded


def _is_second(together: Tensor, alone: Tensor) -> bool:
    if together.numel() != _ROWS * alone.numel():
        return False
    second, alone = together.reshape(_ROWS, -1)[1].float(), alone.flatten().float()
    return bool((second - alone).norm() <= _UNLIKE * alone.norm())
