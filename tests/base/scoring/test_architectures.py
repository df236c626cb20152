"""Each architecture has its scorer, and the loaded base knows it."""

from typing import get_args

from shopfit.base.load import Base
from shopfit.base.scoring.architectures import scorer_of
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.dual_encoder import DualEncoderScorer
from shopfit.recipe.methods import BaseKind


def test_every_kind_of_base_has_a_scorer_of_its_own() -> None:
    assert len({type(scorer_of(kind, 0)) for kind in get_args(BaseKind)}) == len(get_args(BaseKind))


def test_a_base_knows_its_scorer(base: Base, encoder: Base) -> None:
    assert base.scorer == CausalScorer(base.tokenizer.pad_token_id)
    assert encoder.scorer == DualEncoderScorer(encoder.tokenizer.pad_token_id)
