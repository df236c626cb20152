"""The table of architectures: the only place that selects a scorer by the kind of base."""

from collections.abc import Iterator
from typing import Any, assert_never

from shopfit.base.attention import attention_of
from shopfit.base.encoder_decoder import opening_of
from shopfit.base.families import FAST, PLAIN_ENCODERS
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.dual_encoder import DualEncoderScorer, reading_of
from shopfit.base.scoring.encoder_decoder import EncoderDecoderScorer
from shopfit.base.scoring.plain_causal import PlainCausalScorer
from shopfit.base.scoring.scorer import Scorer, ScoringPath
from shopfit.base.text_length import longest_answer
from shopfit.recipe.methods import BaseKind


def scorer_of(kind: BaseKind, pad: int) -> Scorer[Any]:
    """The scorer of a kind of base whose model is elsewhere.

    Args:
        kind: of the base.
        pad: padding token id.
    """
    match kind:
        case "decoder":
            return CausalScorer(pad)
        case "encoder-decoder":
            return EncoderDecoderScorer(pad, (), 0)
        case "encoder":
            return DualEncoderScorer(pad)
        case _:
            assert_never(kind)


def scorers_of(name: str, kind: BaseKind, model: Any, tokenizer: Any) -> Iterator[Scorer[Any]]:
    """The scorers that a model may have, the fastest first. The first that equals its plain forward is right.

    Args:
        name: of the base, for messages.
        kind: of the base.
        model: of transformers.
        tokenizer: its tokenizer, with a padding token.

    Raises:
        BaseError: if it has an encoder beside its decoder, and no file says with which token that starts.
    """
    pad = tokenizer.pad_token_id
    match kind:
        case "decoder":
            yield from _decoder_scorers(model, pad)
        case "encoder-decoder":
            opening = opening_of(name, model, tokenizer)
            yield EncoderDecoderScorer(pad, opening, longest_answer(name, model, len(opening)))
        case "encoder":
            yield DualEncoderScorer(pad, reading_of(model).profile)
        case _:
            assert_never(kind)


def path_of(kind: BaseKind, model: Any) -> ScoringPath:
    """The path that a model takes unless the proof of it finds that it must be the plain one.

    Args:
        kind: of the base.
        model: of transformers; its weights are not looked at.
    """
    match kind:
        case "decoder":
            return next(_decoder_scorers(model, pad=0)).path
        case "encoder-decoder":
            return EncoderDecoderScorer.path
        case "encoder":
            return "plain" if model.config.model_type in PLAIN_ENCODERS else "fast"
        case _:
            assert_never(kind)


def _decoder_scorers(model: Any, pad: int) -> Iterator[Scorer[Any]]:
    attention = attention_of(model) if model.config.model_type in FAST else None
    if attention is not None:
        yield CausalScorer(pad, attention)
    yield PlainCausalScorer(pad)
