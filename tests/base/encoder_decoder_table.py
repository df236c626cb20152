"""Tiny models with an encoder beside their decoder, and whether they answer: docs/reference/what-works-on-what.md."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class EncoderDecoderFamily:
    """A family of transformers.

    Args:
        path: whether it works.
        why: it is refused.
        settings: of its tiny model.
    """

    path: Literal["works", "refused"] = "works"
    why: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


HALF: dict[str, Any] = {  # of T5Gemma
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
VISION: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
SIZES: dict[str, Any] = {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 5,
}


def works(**settings: Any) -> EncoderDecoderFamily:
    """One that answers."""
    return EncoderDecoderFamily(settings=SIZES | settings)


def refused(why: str) -> EncoderDecoderFamily:
    """One that is refused, and why."""
    return EncoderDecoderFamily("refused", why)


SOUND = (
    "audioflamingo3",
    "glmasr",
    "granite_speech",
    "granite_speech_plus",
    "moss_transcribe_diarize",
    "musicflamingo",
    "nemo_speechlm",
    "qwen2_audio",
    "qwen3_asr",
    "seamless_m4t",
    "seamless_m4t_v2",
    "vibevoice_asr",
    "voxtral",
    "voxtral_realtime",
)
ENCODER_DECODERS: dict[str, EncoderDecoderFamily] = {
    "bart": works(),
    "bigbird_pegasus": works(attention_type="original_full"),
    "blenderbot": works(),
    "blenderbot-small": works(),
    "fsmt": refused("takes masks in a way of its own"),
    "led": works(),
    "longt5": works(),
    "m2m_100": works(),
    "marian": works(),
    "mbart": works(),
    "mt5": works(),
    "mvp": works(),
    "nllb-moe": works(),
    "pegasus": works(),
    "pegasus_x": works(),
    "plbart": works(),
    "prophetnet": refused("predicts several tokens at once, and writes one alone in another way"),
    "switch_transformers": works(num_decoder_layers=2),
    "t5": works(),
    "t5gemma": works(encoder=HALF, decoder=HALF),
    "t5gemma2": works(encoder={"text_config": HALF, "vision_config": VISION}, decoder=HALF),
    "umt5": works(),
    "encoder-decoder": refused("is put together of two models with settings of their own"),
    **dict.fromkeys(SOUND, refused("reads sound beside text")),
}
