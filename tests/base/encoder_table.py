"""Every family of encoders that transformers loads: whether it is right here, on which path, or why it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shopfit.base.families import PLAIN_ENCODERS, REFUSED_ENCODERS

_PAD_1 = {"pad_token_id": 1}
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "albert": {},
    "bert": {},
    "big_bird": {"attention_type": "original_full"},
    "camembert": _PAD_1,
    "clip_text_model": {},
    "convbert": {},
    "data2vec-text": _PAD_1,
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": True},
    "distilbert": {},
    "electra": {},
    "ernie": {},
    "esm": {"position_embedding_type": "rotary"},
    "esmc": {"num_key_value_heads": 4},
    "eurobert": {},
    "flaubert": {},
    "fnet": {},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1, "architectures": ["FunnelModel"]},
    "gte": {},
    "ibert": _PAD_1,
    "jina_embeddings_v3": {},
    "layoutlm": {},
    "longformer": {"attention_window": 8} | _PAD_1,
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16} | _PAD_1,
    "megatron-bert": {},
    "mobilebert": {"intra_bottleneck_size": 32, "true_hidden_size": 32},
    "modernbert": {"local_attention": 8},
    "modernvbert": {},
    "molmo2_text": {},
    "mpnet": _PAD_1,
    "mra": _PAD_1,
    "neomme": {"embedding_rank": 16, "sliding_window": 8, "head_dim": 16},
    "nomic_bert": {},
    "nystromformer": {"segment_means_seq_len": 8, "num_landmarks": 8, "conv_kernel_size": 5},
    "perceiver": {},
    "reformer": {"axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16]},
    "rembert": {},
    "roberta": _PAD_1,
    "roberta-prelayernorm": _PAD_1,
    "roc_bert": {"pronunciation_embed_dim": 16, "shape_embed_dim": 16, "shape_vocab_size": 50},
    "roformer": {},
    "splinter": {},
    "squeezebert": {},
    "tapas": {},
    "tipsv2_text_model": {},
    "ultrabert": {"sliding_window": 8},
    "ultravbert": {},
    "xlm": {},
    "xlm-roberta": _PAD_1,
    "xlm-roberta-xl": _PAD_1,
    "xlnet": {},
    "xmod": {"default_language": "en_XX"} | _PAD_1,
    "yoso": _PAD_1,
}
"""Settings of the tiny model's config, beside the usual ones."""


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """A family, and how a tiny model of it is made.

    Args:
        path: works; plain path: texts of one length are read together; refused.
        why: it is on the plain path, or refused.
        settings: of the tiny model's config.
        trained: class of transformers that it is trained as, whose checkpoints hold a head too.
    """

    path: Literal["works", "plain path", "refused"]
    why: str
    settings: Mapping[str, Any]
    trained: str


_TRAINED = {
    "clip_text_model": "AutoModel",
    "splinter": "AutoModelForPreTraining",
    "tipsv2_text_model": "AutoModel",
    "xlnet": "AutoModelForPreTraining",
}


def _family(kind: str) -> EncoderFamily:
    trained = _TRAINED.get(kind, "AutoModelForMaskedLM")
    if kind in REFUSED_ENCODERS:
        return EncoderFamily("refused", REFUSED_ENCODERS[kind], _SETTINGS[kind], trained)
    plain = PLAIN_ENCODERS.get(kind, "")
    return EncoderFamily("plain path" if plain else "works", plain, _SETTINGS[kind], trained)


ENCODER_TABLE: Mapping[str, EncoderFamily] = {kind: _family(kind) for kind in _SETTINGS}
"""Families by transformers' `model_type`."""
