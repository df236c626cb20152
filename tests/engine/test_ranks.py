"""An adapter of a high rank is refused alone, and nobody's memory or answers change."""

from collections.abc import Callable

import pytest

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine
from shopfit.errors import BundleError


def test_a_high_rank_is_refused_alone(base: Base, quick_bundle: Callable[..., Bundle]) -> None:
    small, large = quick_bundle("small", seed=1), quick_bundle("large", seed=2, rank=80)
    with Engine(base, slots=2) as engine:
        before = engine.choose([ChooseRequest(small, {"text": "lovely"})])
        asked = [engine.submit(ChooseRequest(one, {"text": "lovely"})) for one in (small, large, small)]
        assert [asked[place].result(60) for place in (0, 2)] == before * 2
        with pytest.raises(BundleError, match=r"large/r has rank 80 \(allowed here: 1 to 64, max_rank"):
            asked[1].result(60)
    with Engine(base, slots=2, max_rank=80) as engine:
        assert engine.choose([ChooseRequest(large, {"text": "lovely"})])[0].label
