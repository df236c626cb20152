"""Tiny models of many families of decoders, and how each is read: a part of docs/reference/what-works-on-what.md.

`python -m tests.base.families` writes it there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

from tests.base.encoder_decoder_table import ENCODER_DECODERS
from tests.base.encoder_table import ENCODER_TABLE

PAGE = Path(__file__).parents[2] / "docs/reference/what-works-on-what.md"
BEGIN, END = "<!-- families: written by python -m tests.base.families -->", "<!-- /families -->"

Kept = Literal["fast", "plain", "refused"]


@dataclass(frozen=True)
class Family:
    """A family of transformers.

    Args:
        path: fast, plain or refused.
        why: it is not fast.
        prefix: whether it takes a trained prefix.
        settings: of its tiny model.
    """

    path: Kept = "fast"
    why: str = ""
    prefix: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


WINDOWS: dict[str, Any] = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
ONE_WINDOW = 32  # of all layers: from layer to layer, what stands before a text still reaches its end
MOE: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
GROUPS: dict[str, Any] = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LATENT: dict[str, Any] = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
RECURRENT = "its layers keep a state, not keys and values of each token"
ALIBI = "its positions come from distances"


def plain(why: str, *, prefix: bool = True, **settings: Any) -> Family:
    """One on the plain path."""
    return Family("plain", why, prefix, settings)


def fast(*, prefix: bool = True, **settings: Any) -> Family:
    """One on the fast path."""
    return Family("fast", "", prefix, settings)


def refused(why: str, **settings: Any) -> Family:
    """One that is refused, with a part of the message."""
    return Family("refused", why, False, settings)


DECODERS: dict[str, Family] = {
    "afmoe": fast(**WINDOWS, **MOE, n_group=1, topk_group=1, num_shared_experts=1),
    "apertus": fast(),
    "arcee": fast(),
    "bamba": plain(RECURRENT, prefix=False, **MAMBA, attn_layer_indices=[1]),
    "biogpt": fast(),
    "bloom": plain(ALIBI),
    "codegen": fast(),
    "cohere": fast(),
    "cohere2": fast(**WINDOWS),
    "cwm": fast(**WINDOWS),
    "deepseek_v2": fast(prefix=False, **LATENT, **MOE, **GROUPS, head_dim=8),
    "deepseek_v3": fast(prefix=False, **LATENT, **MOE, **GROUPS),
    "diffllama": fast(),
    "dots1": fast(**WINDOWS, **MOE, **GROUPS, n_shared_experts=1),
    "ernie4_5": fast(),
    "ernie4_5_moe": fast(moe_num_experts=4, moe_k=2, moe_intermediate_size=16),
    "exaone4": fast(**WINDOWS),
    "exaone_moe": fast(**WINDOWS, **MOE, n_group=1, topk_group=1),
    "falcon": fast(),
    "falcon_h1": plain(RECURRENT, prefix=False, **MAMBA, mamba_d_ssm=64),
    "falcon_mamba": plain(RECURRENT, prefix=False),
    "flex_olmo": fast(**MOE),
    "gemma": fast(),
    "gemma2": fast(**WINDOWS),
    "gemma3_text": fast(**WINDOWS),
    "glm": fast(),
    "glm4": fast(),
    "glm4_moe": fast(**MOE, **GROUPS),
    "gpt2": fast(),
    "gpt_bigcode": fast(prefix=False),
    "gpt_neo": plain("its layers make their windows themselves", attention_types=[[["global", "local"], 1]]),
    "gpt_neox": fast(),
    "gpt_oss": fast(**WINDOWS, **MOE),
    "gptj": fast(),
    "granite": fast(),
    "granite_swa": fast(**WINDOWS),
    "granitemoe": fast(**MOE),
    "granitemoehybrid": plain(
        RECURRENT,
        prefix=False,
        **MOE,
        **MAMBA,
        layer_types=["linear_attention", "full_attention"],
        shared_intermediate_size=16,
    ),
    "granitemoeshared": fast(**MOE, shared_intermediate_size=16),
    "helium": fast(),
    "hunyuan_v1_dense": fast(),
    "hunyuan_v1_moe": fast(moe_topk=2),
    "hyperclovax": fast(),
    "internlm3": fast(),
    "jais2": fast(),
    "jamba": plain(
        RECURRENT,
        prefix=False,
        **MOE,
        mamba_d_state=8,
        mamba_dt_rank=4,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        use_mamba_kernels=False,
    ),
    "jetmoe": fast(**MOE),
    "lfm2": plain(RECURRENT, prefix=False, layer_types=["conv", "full_attention"], block_multiple_of=8),
    "lfm2_moe": plain(RECURRENT, prefix=False, **MOE, layer_types=["conv", "full_attention"], num_dense_layers=1),
    "llama": fast(),
    "llama4_text": plain(
        "its layers read chunks of the text",
        **MOE,
        attention_chunk_size=8,
        intermediate_size_mlp=64,
        interleave_moe_layer_step=2,
    ),
    "mamba": plain(RECURRENT, prefix=False),
    "mamba2": plain(RECURRENT, prefix=False, num_heads=4, head_dim=16, state_size=8, n_groups=1),
    "minicpm3": fast(prefix=False, **LATENT),
    "minimax": refused("MiniMax uses cache of its own", **MOE, layer_types=LINEAR["layer_types"]),
    "minimax_m2": fast(**MOE),
    "ministral": fast(**WINDOWS),
    "ministral3": fast(),
    "mistral": fast(sliding_window=ONE_WINDOW),
    "mixtral": fast(**MOE, sliding_window=ONE_WINDOW),
    "modernbert-decoder": fast(**WINDOWS),
    "mpt": plain(ALIBI),
    "nanochat": fast(),
    "nemotron": fast(),
    "nemotron_h": plain(RECURRENT, prefix=False, mamba_num_heads=4, mamba_head_dim=16, ssm_state_size=8, n_groups=1),
    "olmo": fast(),
    "olmo2": fast(),
    "olmo3": fast(**WINDOWS),
    "olmo_hybrid": plain(RECURRENT, prefix=False, **LINEAR),
    "olmoe": fast(**MOE),
    "opt": fast(),
    "persimmon": fast(),
    "phi": fast(),
    "phi3": fast(sliding_window=ONE_WINDOW),
    "phimoe": fast(**MOE, sliding_window=ONE_WINDOW),
    "qwen2": fast(vocab_size=416),  # its tokenizer adds an end token of its own
    "qwen2_moe": fast(**MOE, shared_expert_intermediate_size=16, vocab_size=416),
    "qwen3": fast(),
    "qwen3_5_text": plain(RECURRENT, prefix=False, **LINEAR, vocab_size=416),
    "qwen3_moe": fast(**MOE),
    "qwen3_next": plain(RECURRENT, prefix=False, **LINEAR, **MOE, vocab_size=416, shared_expert_intermediate_size=16),
    "rwkv": refused("do not answer as its own plain forward|cannot be run|does not answer"),
    "seed_oss": fast(),
    "smollm3": fast(layer_types=["full_attention", "full_attention"]),
    "solar_open": fast(**MOE, **GROUPS),
    "stablelm": fast(),
    "starcoder2": fast(sliding_window=ONE_WINDOW),
    "vaultgemma": fast(**WINDOWS),
    "xglm": fast(),
    "xlstm": refused("rnn_state", num_heads=4, embedding_dim=32),
    "youtu": fast(prefix=False, **LATENT, head_dim=8),
}


def table() -> str:
    """The part of the page that says which families of decoders there are, and how each is read."""
    by_path = {
        path: [kind for kind, family in DECODERS.items() if family.path == path]
        for path in ("fast", "plain", "refused")
    }
    no_prefix = [kind for kind, family in DECODERS.items() if family.path != "refused" and not family.prefix]
    reasons = {why: [kind for kind in by_path["plain"] if DECODERS[kind].why == why] for why in _whys("plain")}
    lines = [
        f"{len(by_path['fast'])} families on the fast path:",
        _named(by_path["fast"]),
        "",
        f"{len(by_path['plain'])} on the plain path:",
        "",
        *(fill(f"- {why}: {_names(kinds)}", 120, subsequent_indent="  ") for why, kinds in reasons.items()),
        "",
        "Without prefix tuning, as their layers have no keys and values of one shape:",
        _named(no_prefix),
        "",
        f"Refused, as they keep what they read in a way of their own: {_names(by_path['refused'])}.",
    ]
    return "\n".join([*lines, "", *_encoders(), "", *_encoder_decoders()])


def _encoder_decoders() -> list[str]:
    right = sorted(kind for kind, family in ENCODER_DECODERS.items() if family.path == "works")
    refused = {kind: family.why for kind, family in ENCODER_DECODERS.items() if family.path == "refused"}
    reasons = {why: [kind for kind in refused if refused[kind] == why] for why in dict.fromkeys(refused.values())}
    return [
        f"{len(right)} families with an encoder beside their decoder:",
        _named(right),
        "",
        *_as_set(ENCODER_DECODERS),
        f"{len(refused)} are refused:",
        "",
        *(fill(f"- {why}: {_names(kinds)}", 120, subsequent_indent="  ") for why, kinds in reasons.items()),
    ]


def _as_set(table: Mapping[str, Any]) -> list[str]:
    """Families that are right with other settings than transformers' own."""
    sparse = sorted(kind for kind, family in table.items() if family.settings.get("attention_type") == "original_full")
    return [f"{_names(sparse)} with `attention_type: original_full` in its config.json.", ""] if sparse else []


def _encoders() -> list[str]:
    works, plain, refused = (
        {kind: family.why for kind, family in ENCODER_TABLE.items() if family.path == path}
        for path in ("works", "plain path", "refused")
    )
    return [
        f"{len(works)} families of encoders, of which texts of any lengths are read together:",
        _named(list(works)),
        "",
        *_as_set(ENCODER_TABLE),
        f"{len(plain)} of which only texts of one length are:",
        "",
        *(fill(f"- `{kind}`: {why}", 120, subsequent_indent="  ") for kind, why in plain.items()),
        "",
        f"{len(refused)} are refused:",
        "",
        *(fill(f"- `{kind}` {why}", 120, subsequent_indent="  ") for kind, why in refused.items()),
    ]


def _whys(path: Kept) -> list[str]:
    return list(dict.fromkeys(family.why for family in DECODERS.values() if family.path == path))


def _names(kinds: list[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)


def _named(kinds: list[str]) -> str:
    return fill(f"{_names(kinds)}.", 120, break_on_hyphens=False)


def written(page: str) -> str:
    """The page with the table in it."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
