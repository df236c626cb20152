"""What a causal language model does behind its backbone: its output head, and scaling or capping of the scores."""

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn


class _Backbone(nn.Module):
    """Stands for a backbone whose hidden states are there already: itself, and whatever part of it is called."""

    def __init__(self, backbone: Any, states: Tensor) -> None:
        super().__init__()
        self.__dict__["_backbone"], self.__dict__["_output"] = backbone, _Output(states)

    def forward(self, *_: Any, **__: Any) -> "_Output":
        output: _Output = self.__dict__["_output"]
        return output

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["_backbone"], name)  # OPT calls its backbone's decoder
        return self if isinstance(found, nn.Module) else found


class _Output:
    """A backbone's output with hidden states, and without anything else that a model may ask it for."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> Tensor | None:
        return self.last_hidden_state if place == 0 else None

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def backbone_of(model: Any) -> Any:
    """The part of a model that makes hidden states of tokens: of a model that writes, what stands before its output
    head, and of that with an encoder, the decoder.
    """
    if model.config.is_encoder_decoder:
        return model.get_decoder()
    if model.base_model is not model or model.get_output_embeddings() is None:
        return model.base_model
    # Llama 4's text side names its backbone by the place that it has in the whole checkpoint
    return next(child for child in model.children() if hasattr(child, "config"))


def prompt_embedding(model: Any) -> Any:
    """The embedding that reads a prompt: of a model with an encoder beside its decoder, that one's own."""
    return (model.get_encoder() if model.config.is_encoder_decoder else model).get_input_embeddings()


def logits_of(model: Any, states: Tensor) -> Tensor:
    """The scores of the next token after each of P hidden states, as the model itself makes them.

    Whatever a family does behind its backbone is done: the model's own forward runs, but for its backbone (Cohere's
    `logit_scale`, Granite's `logits_scaling`, Gemma 2's `final_logit_softcapping`).

    Args:
        model: of transformers, which writes.
        states: (P, D) last hidden states of its backbone.

    Returns:
        (P, V) float32.
    """
    head = copy(model)  # the weights are the same; only its table of modules is its own
    backbone = backbone_of(model)
    place = next(name for name, part in model._modules.items() if part is not None and backbone in part.modules())
    head.__dict__["_modules"] = model._modules | {place: _Backbone(backbone, states[None])}
    # some models look at the tokens, for their number
    inputs: dict[str, Any] = {"input_ids": torch.zeros((1, len(states)), dtype=torch.long, device=states.device)}
    if model.config.is_encoder_decoder:
        inputs = {"decoder_input_ids": inputs["input_ids"], "encoder_outputs": _Output(states[None])}
    logits: Tensor = type(model).forward(head, **inputs, use_cache=False).logits
    return logits[0].float()
