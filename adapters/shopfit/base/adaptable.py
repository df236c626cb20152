"""The layers of a base that adapters may change: linear ones that read every token of every text, in the rows' order.

Left out are the output head; routers, which must choose experts as they were trained to; experts, which read the tokens
of any rows that are sent to them, so that a row's own adapter cannot follow, and beside them linear layers whose names
PEFT gives to experts; layers of Mamba whose weights are read without calling them; and layers that no text reaches,
such as those for pictures.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from shopfit.base.shared_inputs import inputs_of

_ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
_EXPERTS = frozenset({"experts", "local_experts"})
_FUSED = frozenset({"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})
"""Names under which PEFT looks for experts, and takes them, where a model has any."""
_ROWS, _TOKENS = 2, 3  # of a trial


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is linear: bitsandbytes' quantized layers are, and transformers' Conv1D of the GPT-2 family."""
    return isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """Every linear layer but the output head, by name."""
    head = model.get_output_embeddings()
    return {name: layer for name, layer in model.named_modules() if is_linear(layer) and layer is not head}


def has_experts(model: Any) -> bool:
    """Whether a model is a mixture of experts."""
    return any(_EXPERTS & set(name.split(".")) for name, _ in model.named_modules())


def adaptable_layers(model: Any) -> dict[str, nn.Module]:
    """The layers that adapters may change, by name. The backbone is run on a few tokens, once a model.

    Args:
        model: of transformers, without an adapter.
    """
    names = _FOUND.get(model)
    if names is None:
        names = _FOUND[model] = tuple(_adaptable(model))
    return {name: model.get_submodule(name) for name in names}


_FOUND: WeakKeyDictionary[nn.Module, tuple[str, ...]] = WeakKeyDictionary()


def _adaptable(model: Any) -> dict[str, nn.Module]:
    layers = linear_layers(model)
    tokens = torch.zeros(_ROWS, _TOKENS, dtype=torch.long, device=next(model.parameters()).device)
    shapes = {(_ROWS, _TOKENS), (_ROWS * _TOKENS,)} if model.get_output_embeddings() is not None else None
    read = {  # of an encoder, any layer that a text reaches
        name for name, x in inputs_of(model, layers, tokens) if shapes is None or tuple(x.shape[:-1]) in shapes
    }
    left_out = _ROUTERS | _EXPERTS | (_FUSED if has_experts(model) else frozenset())
    return {
        name: layer
        for name, layer in layers.items()
        if name in read and not set(name.split(".")) & left_out and not _of_mamba(model, name)
    }


def _of_mamba(model: Any, name: str) -> bool:
    """Whether a layer is the last one of a Mamba block, whose weight kernels read without calling the layer."""
    block, _, leaf = name.rpartition(".")
    return leaf == "out_proj" and hasattr(model.get_submodule(block), "conv1d")
