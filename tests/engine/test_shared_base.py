"""Several engines of one process on one loaded base: they share its weights, and no row of one meets the other's."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.base.tiny import save_tiny

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine
from shopfit.errors import BaseError

TEXTS = [f"lovely tent number {number}" for number in range(12)]


def test_engines_share_a_base_and_keep_their_merchants_apart(base: Base, quick_bundle: Callable[..., Bundle]) -> None:
    bundles = [quick_bundle(merchant, seed=seed) for seed, merchant in enumerate(("acme", "beta"))]
    asked = [[ChooseRequest(bundle, {"text": text}) for text in TEXTS] for bundle in bundles]
    with Engine(base) as engine:
        alone = [[answer.probabilities for answer in engine.choose(requests)] for requests in asked]
    assert alone[0] != alone[1]
    places = {name: weight.data_ptr() for name, weight in base.model.named_parameters()}
    with Engine(base) as first, Engine(base) as second, ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            answers = [threads.submit(engine.choose, requests) for engine in (first, second) for requests in asked]
            for found, wanted in zip(answers, alone * 2, strict=True):
                for answer, one in zip(found.result(), wanted, strict=True):
                    assert answer.probabilities == pytest.approx(one, abs=1e-5)
        assert first.base.model is second.base.model
    assert {name: weight.data_ptr() for name, weight in base.model.named_parameters()} == places


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_base_of_another_family_than_the_adapters_is_refused(
    tmp_path: Path, home: Path, quick_bundle: Callable[..., Bundle], family: str
) -> None:
    loader = "AutoModel" if family == "bert" else "AutoModelForCausalLM"
    other = load_base(str(save_tiny(tmp_path / "other", family, loader)), home)
    with Engine(other) as engine, pytest.raises(BaseError, match="fingerprint"):
        engine.choose([ChooseRequest(quick_bundle("acme"), {"text": "lovely"})])
