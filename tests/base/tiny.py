"""Tiny random models of many families, made on the fly."""

from pathlib import Path
from typing import Any

import torch
from tests.conftest import save_base, tiny_tokenizer

_SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "d_inner": 64,
    "d_head": 8,
    "d_ff": 64,
    "d_kv": 8,
    "dim": 32,
    "emb_dim": 32,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 64,
    "n_inner": 64,
    "hidden_dim": 64,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rotary_dim": 8,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "n_ctx": 128,
    "max_seq_len": 128,
    "num_experts": 4,
    "num_local_experts": 4,
    "sliding_window": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "cls_token_id": 0,
    "sep_token_id": 0,
}


def tiny_model(kind: str, loader: str, **settings: Any) -> Any:
    """A model of two layers whose random weights, biases and norms all matter.

    Args:
        kind: model_type of transformers.
        loader: class of transformers that makes it, such as "AutoModel".
        settings: of its config.
    """
    import transformers

    config_class = type(transformers.AutoConfig.for_model(kind))
    usual = config_class()
    sizes = {key: value for key, value in _SIZES.items() if _settable(usual, key)}
    torch.manual_seed(0)
    model = getattr(transformers, loader).from_config(config_class(**(sizes | settings)), attn_implementation="eager")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            drawn = torch.randn(weight.shape, generator=generator)
            weight.copy_(drawn * 0.15 if weight.dim() > 1 else weight + drawn * 0.1)
    return model.eval()


def _settable(config: Any, key: str) -> bool:
    return key in config.to_dict() and not isinstance(getattr(type(config), key, None), property)


def save_tiny(folder: Path, kind: str, loader: str, **settings: Any) -> Path:
    """The same as a base's folder."""
    return save_base(folder, tiny_model(kind, loader, **settings), tiny_tokenizer())
