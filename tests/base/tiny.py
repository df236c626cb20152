"""Tiny random models of many families, made on the fly."""

import json
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


def save_gguf(path: Path, base: Path, kind: str = "Q8_0") -> dict[str, torch.Tensor]:
    """A GGUF file of a tiny Llama base, as llama.cpp's converter writes one.

    Args:
        path: of the file.
        base: its folder.
        kind: quantization type of the weights of linear layers and of the embedding.

    Returns:
        the weights that are in the file, by transformers' names: dequantized, so what a reader must find.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    config, writer = model.config, GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(config.vocab_size)))
    writer.add_token_types([3] + [1] * (config.vocab_size - 1))
    writer.add_token_merges([" ".join(merge) for merge in pieces["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    held = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        numbers = weight.float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        turned = next((count for part, count in heads.items() if part in name), None)
        if turned is not None:
            numbers = _turn(numbers, turned, 2, 1)
        quantized = GGMLQuantizationType[kind if numbers.ndim == 2 else "F32"]
        data = quants.quantize(numbers, quantized)
        writer.add_tensor(_gguf_name(name), data, raw_dtype=quantized)
        back = quants.dequantize(data, quantized)
        held[name] = torch.tensor(back if turned is None else _turn(back, turned, -1, 2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def _turn(weight: Any, heads: int, first: int, second: int) -> Any:
    """llama.cpp's order of a head's rows, or with (-1, 2) back: it turns neighbours, transformers halves."""
    return (
        weight.reshape(heads, first, second if first == -1 else -1, weight.shape[1])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def _gguf_name(name: str) -> str:
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(ours, theirs)
    return name
