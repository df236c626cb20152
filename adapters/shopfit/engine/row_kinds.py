"""Which rows a base decodes in: the only place that selects them, by the base's scorer."""

from typing import Any

from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.encoder_decoder import EncoderDecoderScorer
from shopfit.base.scoring.scorer import Scorer
from shopfit.engine.decoding_rows import DecodingRows, FastRows, PlainRows
from shopfit.engine.encoder_decoder_rows import EncoderDecoderRows


def rows_of(model: Any, scorer: Scorer[Any], most: int) -> DecodingRows:
    """Rows of a base that writes.

    Args:
        model: of transformers.
        scorer: of its base.
        most: rows at a time.
    """
    match scorer:
        case CausalScorer():
            return FastRows(model, scorer, most)
        case EncoderDecoderScorer():
            return EncoderDecoderRows(model, scorer, most)
        case _:
            return PlainRows(model, most)
