"""The model families that answer, and the settings with which a base is refused.

Any causal language model of transformers is a decoder. Those of the families in `FAST` read answers side by side in one
row; all others take the plain path, one answer a row, as their own forward documents it. Encoders are all that
transformers' auto-mapping names. Each is proven on the loaded base against its plain forward (self_test.py), so the
tables decide speed, never what is right.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Literal

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.tensor_files import BUFFERS
from shopfit.errors import BaseError, Problem
from shopfit.recipe.methods import BaseKind

FAST = frozenset(
    {
        "afmoe",
        "apertus",
        "arcee",
        "biogpt",
        "codegen",
        "cohere",
        "cohere2",
        "cwm",
        "deepseek_v2",
        "deepseek_v3",
        "diffllama",
        "dots1",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone4",
        "exaone_moe",
        "falcon",
        "flex_olmo",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "glm4_moe",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "gpt_oss",
        "gptj",
        "granite",
        "granite_swa",
        "granitemoe",
        "granitemoeshared",
        "helium",
        "hunyuan_v1_dense",
        "hunyuan_v1_moe",
        "hyperclovax",
        "internlm3",
        "jais2",
        "jetmoe",
        "llama",
        "minicpm3",
        "minimax_m2",
        "ministral",
        "ministral3",
        "mistral",
        "mixtral",
        "modernbert-decoder",
        "nanochat",
        "nemotron",
        "olmo",
        "olmo2",
        "olmo3",
        "olmoe",
        "opt",
        "persimmon",
        "phi",
        "phi3",
        "phimoe",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "solar_open",
        "stablelm",
        "starcoder2",
        "vaultgemma",
        "xglm",
        "youtu",
    }
)
"""Decoders whose layers take masks of trees and position ids: each is tested in tests/base/test_families.py."""
PLAIN_ENCODERS: Mapping[str, str] = {
    "convbert": "its convolutions read the tokens beside a token, padding too",
    "fnet": "its Fourier transform runs over all tokens, padding too",
    "mobilebert": "its embeddings are of three tokens, padding too",
    "nystromformer": "its convolutions read the tokens beside a token, padding too",
}
"""Encoders whose states depend on padding, and why: texts of one length are read together, without any."""
REFUSED_ENCODERS: Mapping[str, str] = {
    "funnel": "halves its tokens from block to block, and cannot read a text of one",
    "ibert": "is made of layers for whole numbers, which adapters do not reach",
    "molmo2_text": "is the text side of a model that writes, and was not trained to embed",
    "modernvbert": "reads images beside texts",
    "mra": "takes its attention from code that is fetched from the Hub, and without it computes another one",
    "perceiver": "has states of latents, not of tokens, so that they cannot be pooled",
    "reformer": "draws hashes at random, so that no answer is given twice",
    "squeezebert": "is made of convolutions, which adapters do not reach",
    "ultravbert": "reads images beside texts",
    "yoso": "takes its attention from code that is fetched from the Hub",
}
"""Encoders that transformers loads and that are refused, and why."""
_SOUND = (
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
REFUSED_ENCODER_DECODERS: Mapping[str, str] = {
    "encoder-decoder": "is put together of two models with settings of their own",
    "fsmt": "takes masks in a way of its own",
    "prophetnet": "predicts several tokens at once, and writes one alone in another way",
    **dict.fromkeys(_SOUND, "reads sound beside text"),
}
"""Models with an encoder beside their decoder that transformers loads and that are refused, and why."""

_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_hidden_groups", "inner_group_num")
_PLAIN: dict[str, tuple[tuple[Any, ...], str]] = {
    "is_encoder_decoder": ((None, False), "it has an encoder beside its decoder"),
    "add_cross_attention": ((None, False), "it reads another model's states"),
}
_UNMASKED = frozenset({"splinter", "xlnet"})  # encoders that are trained on other tasks
_HEADS = (
    "pooler.",
    "cls.",
    "lm_head.",
    "lm_predictions.",
    "predictions.",
    "vocab_",
    "head.",
    "decoder.",
    "sop_classifier.",
    "discriminator_predictions.",
    "generator_predictions.",
    "generator_lm_head.",
    "mask_predictions.",
    "entity_predictions.",
    "lm_loss.",
    "pred_layer.",
    "splinter_qass.",
)
"""Weights of encoders' training heads, which vectors do not use."""


def kind_of(name: str, checkpoint: Checkpoint) -> BaseKind:
    """Whether a base is a decoder or an encoder, before the model is built.

    Args:
        name: of the base, for messages.
        checkpoint: its files.

    Raises:
        BaseError: if it is neither, or its family is not supported.
    """
    from transformers.models.auto import modeling_auto as auto

    config = checkpoint.config
    family = config.get("model_type")
    if not isinstance(family, str) or not family:
        raise refused(name, f"has the model_type {family!r} in its config.json (allowed: the name of a family)")
    classes = _encoder_classes(family, checkpoint)
    both = _both_classes(family)
    if not classes and not both and (why := next(_out_of_plain(config), "")):
        raise refused(name, f"of the family {family} does something that is not done here: {why}")
    for key in _LAYER_COUNTS:
        layers = config.get(key)
        if layers is not None and (
            not isinstance(layers, int) or isinstance(layers, bool) or not 0 < layers <= len(checkpoint.pieces)
        ):
            raise refused(name, f"has {key} {str(layers)[:40]}, with weights of {len(checkpoint.pieces)} tensors")
    architectures = config.get("architectures")
    if architectures is not None and (
        not isinstance(architectures, list) or not all(isinstance(each, str) for each in architectures)
    ):
        raise refused(name, f"has architectures {architectures!r:.80} in config.json (allowed: a list of names)")
    if classes:
        return _as_encoder(name, family, checkpoint, classes)
    if both:
        if (reason := REFUSED_ENCODER_DECODERS.get(family)) is not None:
            raise refused(name, f"of the family {family} {reason}")
        _check_forgetful(name, family, checkpoint)
        return _as(name, "encoder-decoder", family, architectures, both)
    if family in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return _as(name, "decoder", family, architectures, _classes(family, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    if family not in auto.CONFIG_MAPPING_NAMES:
        raise refused(name, f"is of the family {family}, which transformers {version('transformers')} does not know")
    raise refused(name, f"is of the family {family}, which writes no text and is no encoder known to be right")


def writes(name: str, checkpoint: Checkpoint) -> Literal["decoder", "encoder-decoder"]:
    """The kind of a model that generates texts for augmentation. It runs in plain transformers, so any family will do.

    Args:
        name: of the model, for messages.
        checkpoint: its files.

    Raises:
        BaseError: if it does not generate text.
    """
    from transformers.models.auto import modeling_auto as auto

    family, saved_as = checkpoint.config.get("model_type"), checkpoint.config.get("architectures")
    if isinstance(family, str) and isinstance(saved_as, list):
        if set(map(str, saved_as)) & set(_classes(family, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)):
            return "decoder"
        if family in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            return "encoder-decoder"
    raise BaseError(
        f"the model {name} writes no text, so it cannot rewrite any",
        next_step="name a causal or sequence-to-sequence model in data.augment, such as smollm2-135m",
    )


def _encoder_classes(family: str, checkpoint: Checkpoint) -> list[str]:
    """Classes that an encoder of this family may be saved from; none if the base is no encoder of text.

    Encoders are what transformers trains on masked words, or names as encoders of text. Any other model of text is one
    if its files say how it is pooled, such as a decoder that was trained to embed.
    """
    from transformers.models.auto import modeling_auto as auto

    masked, trained = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if family in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return []
    others = _UNMASKED | (auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.keys() - causal.keys())
    if family in masked or family in others:
        return _classes(family, auto.MODEL_MAPPING_NAMES, masked, trained)
    if checkpoint.profile.saved_pooling is not None and family in causal:
        return _classes(family, auto.MODEL_MAPPING_NAMES, causal)
    return []


def _check_forgetful(name: str, family: str, checkpoint: Checkpoint) -> None:
    if family in {"big_bird", "bigbird_pegasus"} and checkpoint.config.get("attention_type") != "original_full":
        why = "forgets its sparse attention with the first short text, so that answers depend on what was asked before"
        way_out = "set attention_type to original_full in its config.json: its weights are the same"
        raise refused(name, f"of the family {family} {why} (attention_type; allowed: original_full)", way_out)


def _both_classes(family: str) -> list[str]:
    """Classes that a model with an encoder beside its decoder may be saved from; none if it is of no such family.

    What was saved without its output head has it in its embeddings, or lacks weights, and is refused for that.
    """
    from transformers.models.auto import modeling_auto as auto

    writing = auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    return _classes(family, writing, auto.MODEL_MAPPING_NAMES) if family in writing else []


def _as_encoder(name: str, family: str, checkpoint: Checkpoint, classes: list[str]) -> BaseKind:
    if why := REFUSED_ENCODERS.get(family):
        raise refused(name, f"of the family {family} {why}")
    _check_forgetful(name, family, checkpoint)
    if checkpoint.config.get("is_decoder"):
        raise refused(name, f"of the family {family} is set up as a decoder (is_decoder in config.json)")
    return _as(name, "encoder", family, checkpoint.config.get("architectures"), classes)


def _as(name: str, kind: BaseKind, family: str, architectures: list[str] | None, classes: list[str]) -> BaseKind:
    """Return the kind, if the checkpoint was saved from a model class of that kind; else refuse it."""
    if architectures and not set(architectures) & set(classes):
        allowed = ", ".join(sorted(set(classes)))
        raise refused(
            name,
            f"of the family {family} was saved as {', '.join(architectures)} (allowed: {allowed})",
            "load it with transformers as one of these, and save that",
        )
    return kind


def _classes(family: str, *mappings: Mapping[str, str | tuple[str, ...]]) -> list[str]:
    found = [each[family] for each in mappings if family in each]
    return [one for each in found for one in ([each] if isinstance(each, str) else each)]


def check_settings(name: str, kind: BaseKind, config: Any) -> None:
    """Refuse settings with which a base would be read as something else than it is.

    Args:
        name: of the base, for messages.
        kind: what it is loaded as.
        config: of transformers.

    Raises:
        BaseError: naming the setting.
    """
    settings = {key: getattr(config, key, None) for key in _PLAIN}
    if kind == "decoder" and (why := next(_out_of_plain(settings), "")):
        raise refused(name, f"does something that is not done here: {why}")


def check_weights(name: str, kind: BaseKind | None, loaded: Mapping[str, Any]) -> None:
    """Refuse a model whose weights are not exactly those of its checkpoint.

    Args:
        name: of the base, for messages.
        kind: what it was loaded as.
        loaded: transformers' `output_loading_info`.

    Raises:
        BaseError: with every tensor that is missing, unexpected or of another shape.
    """
    problems = [
        Problem(key, "is missing: its numbers would be random")
        for key in sorted(loaded["missing_keys"])
        if not (kind == "encoder" and key.startswith("pooler."))  # not used: vectors are pooled states
        and not (kind == "encoder-decoder" and key == "final_logits_bias")  # zeros where no training changed it
    ]
    problems += [
        Problem(key, "has no place in the model that config.json describes")
        for key in sorted(loaded["unexpected_keys"])
        if not key.endswith(BUFFERS) and not (kind == "encoder" and key.startswith(_HEADS))
    ]
    problems += [
        Problem(str(key), f"has the shape {list(found)}", f"{list(wanted)}")
        for key, found, wanted in sorted(loaded["mismatched_keys"])
    ]
    for errors in (loaded.get("error_msgs"), loaded.get("conversion_errors")):
        found = errors.items() if isinstance(errors, Mapping) else [("weights", each) for each in errors or ()]
        problems += [Problem(str(key), str(what).splitlines()[0]) for key, what in found]
    if problems:
        raise BaseError(
            f"the weights of the base {name} do not fit its config.json",
            problems=problems,
            next_step="bring weights and config.json again, from one place",
        )


def _out_of_plain(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, (plain, why) in _PLAIN.items():
        value = settings.get(key)
        if not any(value is one or (one is not None and value == one) for one in plain):
            yield f"{why} ({key} {str(value)[:40]})"


def refused(name: str, why: str, way_out: str = "") -> BaseError:
    """The error of a base that is refused for its settings.

    Args:
        name: of the base.
        why: what is wrong with it.
        way_out: what to do next; another base by default.
    """
    other = "use a base that docs/reference/what-works-on-what.md lists, such as smollm2-135m or minilm-l6"
    return BaseError(f"the base {name} {why}", next_step=way_out or other)
