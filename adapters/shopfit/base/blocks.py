"""The blocks of a model: its row of layers of one kind, which a text's hidden states go through in turn."""

from typing import Any

from torch import nn

from shopfit.base.attention import text_config
from shopfit.base.output_head import backbone_of


def block_names(model: Any) -> list[str]:
    """Names of a model's blocks, in their order; empty if it has no such row, or an encoder beside its decoder.

    Args:
        model: of transformers.
    """
    if model.config.is_encoder_decoder:
        return []
    backbone, count = backbone_of(model), getattr(text_config(model), "num_hidden_layers", 0)
    prefix = next(name for name, module in model.named_modules() if module is backbone)
    rows = [name for name, part in backbone.named_modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    return [".".join(filter(None, (prefix, rows[0], str(place)))) for place in range(count)] if rows else []
