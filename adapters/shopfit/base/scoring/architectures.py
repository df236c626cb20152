"""The table of architectures: the only place that selects a scorer by the kind of base."""

from typing import Any, assert_never

from shopfit.base.families import BaseKind
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.dual_encoder import DualEncoderScorer
from shopfit.base.scoring.scorer import Scorer


def scorer_of(kind: BaseKind, pad: int) -> Scorer[Any]:
    """The scorer of a kind of base.

    Args:
        kind: of the base.
        pad: padding token id.
    """
    match kind:
        case "decoder":
            return CausalScorer(pad)
        case "encoder":
            return DualEncoderScorer(pad)
        case _:
            assert_never(kind)
