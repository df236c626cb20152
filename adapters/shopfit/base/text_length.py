"""How many tokens a model reads, by its settings."""

from collections.abc import Iterator, Mapping
from typing import Any

from shopfit.base.families import refused
from shopfit.recipe.methods import BaseKind

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "context_length", "model_max_length")
_BOUNDLESS = 32_768  # tokens that a decoder reads whose settings name no length, such as recurrent ones
_BY_LENGTH = ("dynamic", "longrope")  # frequencies change with a batch's longest text, once it is longer than usual
_LEAST_TEXT = 16  # tokens that a base must read at least
_UNLIMITED = 512  # tokens of a text for an encoder with relative positions, which names no limit


def longest_text(name: str, model: Any, kind: BaseKind = "decoder") -> int:
    """The longest text, in tokens, that a model reads as it was trained to, whatever is beside it in a batch.

    Args:
        name: of the base, for messages.
        model: of transformers.
        kind: what it is loaded as; an encoder reads with its own windows, and may have no limit. With an encoder beside
            its decoder, it is that one that reads.

    Raises:
        BaseError: if it is below 16, or no number.
    """
    part = model.get_encoder() if kind == "encoder-decoder" else model
    return _longest(name, part, kind, "max_encoder_position_embeddings")


def longest_answer(name: str, model: Any, opening: int) -> int:
    """The longest answer, in tokens, of a decoder that reads nothing before it but its opening.

    Args:
        name: of the base, for messages.
        model: of transformers, with an encoder beside its decoder.
        opening: tokens of that.

    Raises:
        BaseError: as for `longest_text`.
    """
    limit = _longest(name, model.get_decoder(), "encoder-decoder", "max_decoder_position_embeddings")
    return limit - opening + 1  # an answer's last token is not read


def _longest(name: str, part: Any, kind: BaseKind, own: str) -> int:
    from torch import nn

    config = part.config.get_text_config()
    named = next((key for key in (own, *_LENGTHS) if getattr(config, key, None) not in {None, -1}), None)
    limit = (_BOUNDLESS if kind == "decoder" else _UNLIMITED) if named is None else getattr(config, named)
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise refused(name, f"has {named} {limit!r:.40} (allowed: a number)")
    rope = getattr(config, "rope_parameters", None)
    if set(_rope_values(rope, "rope_type", "type")) & set(_BY_LENGTH):
        usual = [*_rope_values(rope, "original_max_position_embeddings"), limit]
        limit = min([limit, *(length for length in usual if isinstance(length, int))])
    for place, module in part.named_modules():
        # RoBERTa-like models count positions from after the padding's
        if (
            place.endswith("position_embeddings")
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        ):
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    if limit < _LEAST_TEXT:
        raise refused(name, f"reads {limit} tokens at most (allowed: {_LEAST_TEXT} or more)")
    return limit


def _rope_values(parameters: Any, *keys: str) -> Iterator[Any]:
    """The values of some keys of the settings of rotary positions, which may be nested by kind of layer."""
    if isinstance(parameters, Mapping):
        yield from (parameters[key] for key in keys if isinstance(parameters.get(key), str | int))
        for value in parameters.values():
            yield from _rope_values(value, *keys)
