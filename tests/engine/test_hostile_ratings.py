"""Bundles of ratings that somebody changed: each is refused with its reason, and no other adapter's answer changes."""

import gc
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.engine.test_hostile_bundles import contents_of, held

from shopfit.adapter.artifacts import FUSION
from shopfit.adapter.bundle import MANIFEST, Bundle
from shopfit.base.load import Base
from shopfit.engine import Engine, RateRequest, Tenant
from shopfit.errors import BundleError, ShopfitError

QuickBundle = Callable[..., Bundle]
FIELDS = {"text": "lovely crema", "user": "ann", "item": "tent"}
BOUNDS = {"file": "x.jsonl", "bounds": [1, 5]}
MEAN = {"weights": {"mean": 1.0}, "mean": 4.0}


def changed(bundle: Bundle, labels: list[str] | None = None, blend: Any = None) -> Tenant:
    contents = contents_of(bundle)
    if labels is not None:
        contents[MANIFEST] = json.dumps(json.loads(contents[MANIFEST]) | {"labels": labels}).encode()
    if blend is not None:
        contents[FUSION] = json.dumps(blend).encode()
    return Tenant.of(held(contents))


def embed(texts: Any) -> NDArray[np.float32]:
    return np.ones((len(texts), 3), np.float32)


@pytest.mark.parametrize("blend", [None, MEAN])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], "'a' is no level"),
        (["1", "nan", "5"], "'nan' is no level"),
        (["1", "inf"], "'inf' is no level"),
        (["-1e308", "1e308"], "'-1e308' is no level"),
        (["3"], "one level leaves nothing to weigh"),
        (["1", "1.0", "1e0"], "levels of a rating rise"),
        (["5", "4", "3", "2", "1"], "levels of a rating rise"),
        (["1", "2", "3", "4", "6"], "levels go from 1 to 6 .allowed: from 1 to 5"),
    ],
)
def test_labels_that_are_not_the_levels_of_the_recipe_are_refused(
    quick_bundle: QuickBundle, labels: list[str], blend: Any, message: str
) -> None:
    bundle = quick_bundle("acme", task="rate", data=BOUNDS)
    assert changed(bundle).labels == ("1", "2", "3", "4", "5")
    with pytest.raises(BundleError, match=f"(?s)the labels of acme/r are not of its recipe.*{message}") as refused:
        changed(bundle, labels, blend)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        (MEAN | {"mean": float("nan")}, "NaN"),
        (MEAN | {"users": {"ann": "much"}}, "users.ann"),
        ({"weights": {"mean": 1.0}}, "mean: Field required"),
        (MEAN | {"weights": {"minilm": 1.0}}, "coefficients: none"),
        (MEAN | {"shares": [0.5, 0.5]}, "shares"),
        ([], "dictionary"),
    ],
)
def test_a_blend_of_ratings_that_is_none(quick_bundle: QuickBundle, blend: Any, message: str) -> None:
    with pytest.raises(BundleError, match=f"(?s)blend.json of acme/r is not a blend.*{message}"):
        changed(quick_bundle("acme", task="rate", data=BOUNDS), blend=blend)


@pytest.mark.parametrize(
    "blend",
    [
        MEAN | {"weights": {"minilm": 1.0}, "coefficients": [1.0] * 384},
        MEAN | {"weights": {"mean": 1e308, "user-bias": 1e308}, "mean": 1e308, "users": {"ann": -1e308}},
    ],
)
def test_a_blend_that_cannot_be_computed_fails_alone(base: Base, quick_bundle: QuickBundle, blend: Any) -> None:
    good = Tenant.of(quick_bundle("acme", task="rate", data=BOUNDS))
    evil = changed(quick_bundle("rival", task="rate", data=BOUNDS, seed=1), blend=blend)
    with Engine(base, embed=embed) as engine, np.errstate(all="ignore"):
        want = engine.ask(good, FIELDS).score
        futures = [engine.submit(RateRequest(adapter, FIELDS)) for adapter in (good, evil, good)]
        with pytest.raises(ShopfitError, match=r"vectors of 3|not finite") as failed:
            futures[1].result(60)
        assert "please report" not in failed.value.message
        for future in (futures[0], futures[2]):
            assert future.result(60).score == pytest.approx(want, abs=1e-4)


def test_an_adapter_never_answers_for_one_that_is_gone(base: Base, quick_bundle: QuickBundle) -> None:
    """Python gives a new tenant the `id` of one that was forgotten."""
    bundle = quick_bundle("acme", task="rate", data=BOUNDS)
    with Engine(base, embed=embed) as engine:
        for place in range(30):
            mean = 1 + place % 5
            answer: Any = engine.ask(changed(bundle, blend=MEAN | {"mean": mean}), FIELDS)
            assert answer.score == mean
            gc.collect()
