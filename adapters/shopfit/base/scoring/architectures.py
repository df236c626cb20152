"""The table of architectures: the one place that asks which a base is of, to score with it."""

from typing import Any, assert_never

from shopfit.base.families import Kind
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.dual_encoder import DualEncoderScorer
from shopfit.base.scoring.scorer import Scorer


def scorer_of(kind: Kind, pad: int) -> Scorer[Any]:
    """The scorer of a kind of base.

    Args:
        kind: which.
        pad: token id that fills rows up.
    """
    match kind:
        case "decoder":
            return CausalScorer(pad)
        case "encoder":
            return DualEncoderScorer(pad)
        case _:
            assert_never(kind)
