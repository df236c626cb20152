"""A blend is served as part of the adapter: its parts are computed anew for each request, and weighed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shopfit.adapter.bundle import Bundle, seal
from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, RankRequest, Tenant
from shopfit.errors import BaseError, BundleError, RequestError
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tasks.choose import ChooseFusion
from shopfit.tasks.rank import RankFusion

QuickBundle = Callable[..., Bundle]
ITEMS = ["tent", "bag", "stove", "boots"]


def by_letters(texts: Sequence[str]) -> NDArray[np.float32]:
    counts = np.array([[1 + text.lower().count(letter) for letter in "abenorst"] for text in texts], float)
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def engine(base: Base) -> Engine:
    return Engine(base, embed=by_letters)


def scores(engine: Engine, tenant: Tenant, query: str = "boots for rain") -> dict[str, float]:
    answer = engine.rank([RankRequest(tenant, {"query": query}, ITEMS, top=9)])[0]
    return {item.id: item.score for item in answer.items}


def test_parts_add_up_by_their_weights(engine: Engine, quick_bundle: QuickBundle) -> None:
    tenant = Tenant.of(quick_bundle("acme", task="rank"))
    alone = scores(engine, tenant)

    def with_weights(**weights: float) -> dict[str, float]:
        return scores(engine, replace(tenant, blend=RankFusion(weights=weights, popularity={"bag": 9, "tent": 1})))

    popular = with_weights(popularity=1.0)
    assert popular["bag"] == pytest.approx(np.log(10))
    assert popular["stove"] == 0
    words = with_weights(bm25=1.0)
    assert words["boots"] > words["tent"] == 0
    temperature = tenant.recipe.tune.temperature
    together = with_weights(adapter=0.5, popularity=2.0, bm25=1.0)
    for item in ITEMS:
        want = 0.5 * alone[item] / temperature + 2 * popular[item] + words[item]
        assert together[item] == pytest.approx(want, abs=1e-4)
    assert set(with_weights(minilm=1.0)) == set(ITEMS)
    assert set(with_weights(history=1.0).values()) == {0.0}  # this request has none


def test_labels_too(engine: Engine, quick_bundle: QuickBundle) -> None:
    tenant = Tenant.of(quick_bundle("acme"))
    centroids = by_letters(["broken ", "best"]).tolist()

    def positive(**weights: float) -> float:
        blend = ChooseFusion(weights=weights, shares=[0.2, 0.8], centroids=centroids)
        request = ChooseRequest(replace(tenant, blend=blend), {"text": "tests"})
        return engine.choose([request])[0].probabilities["positive"]

    assert positive(majority=1.0) == pytest.approx(0.8)
    assert positive(minilm=1.0) > 0.5
    alone = engine.choose([ChooseRequest(tenant, {"text": "tests"})])[0].probabilities["positive"]
    assert positive(adapter=1.0) == pytest.approx(alone, abs=1e-5)
    odds = np.log(alone / (1 - alone)) + np.log(4)
    assert positive(adapter=1.0, majority=1.0) == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)


def test_without_an_encoder_the_engine_says_what_it_takes(base: Base, quick_bundle: QuickBundle) -> None:
    tenant = replace(Tenant.of(quick_bundle("acme", task="rank")), blend=RankFusion(weights={"minilm": 1.0}))
    with Engine(base) as engine, pytest.raises(RequestError, match="sentence encoder"):
        scores(engine, tenant)
    with Engine(base) as engine:
        assert scores(engine, replace(tenant, blend=RankFusion(weights={"bm25": 1.0})))


def test_only_the_encoder_that_it_was_fitted_with_answers(
    base: Base, encoder: Base, quick_bundle: QuickBundle, home: Path
) -> None:
    """A name may be of another encoder than it was: its vectors mean something else, whatever their length."""
    late = LateEmbedder(home, remember=False)
    for task, blend in (
        ("choose", ChooseFusion(weights={"minilm": 1.0}, centroids=np.eye(2, encoder_width(encoder)).tolist())),
        ("rank", RankFusion(weights={"minilm": 1.0})),
    ):
        made = Tenant.of(quick_bundle(f"{task}-shop", task=task))
        serve = made.recipe.serve.model_copy(update={"encoder": str(encoder.folder)})
        tenant = replace(made, recipe=made.recipe.model_copy(update={"serve": serve}), blend=blend)
        fields = {"query": "boots"} if task == "rank" else {"text": "boots"}
        for fitted, ok in (("", True), (encoder.fingerprint, True), ("0" * 64, False)):
            bundle = replace(made.bundle, manifest=made.bundle.manifest.model_copy(update={"encoder": fitted}))
            with Engine(base, embed=late) as engine:
                asked = partial(engine.ask, replace(tenant, bundle=bundle), fields)
                options = {"candidates": ITEMS} if task == "rank" else {}
                if ok:
                    asked(**options)
                    continue
                with pytest.raises(BaseError, match="of the fingerprint 000000000000, and here"):
                    asked(**options)


def encoder_width(encoder: Base) -> int:
    return int(encoder.model.config.hidden_size)


def test_an_adapter_of_no_use_costs_no_forward(engine: Engine, quick_bundle: QuickBundle) -> None:
    ranker = replace(Tenant.of(quick_bundle("acme", task="rank")), blend=RankFusion(weights={"bm25": 1.0}))
    chooser = replace(
        Tenant.of(quick_bundle("beta", seed=1)), blend=ChooseFusion(weights={"majority": 1.0}, shares=[0.2, 0.8])
    )
    assert next(iter(scores(engine, ranker))) == "boots"
    assert engine.recommend(ranker, query="stove", k=1).items[0].id == "stove"
    answer = engine.choose([ChooseRequest(chooser, {"text": "x"})])[0]
    assert answer.probabilities == pytest.approx({"negative": 0.2, "positive": 0.8})
    assert engine.status().swaps == 0


def test_a_bundle_carries_its_blend_through_the_registry(
    base: Base, quick_bundle: QuickBundle, settings: Settings
) -> None:
    bundle = quick_bundle("acme", task="rank")
    blend = RankFusion(weights={"popularity": 2.0}, popularity={"stove": 3})
    (bundle.folder / "blend.json").write_text(blend.model_dump_json())
    with Registry.open(settings) as registry:
        registry.publish(seal(bundle.folder, bundle.manifest), promote=True, actor="test")
        with Engine(base, registry=registry, cache=settings.cache) as engine:
            answer = engine.rank([RankRequest("acme/r", {"query": "x"}, ITEMS, top=1)])[0]
    assert answer.items[0].id == "stove"
    assert answer.items[0].score == pytest.approx(2 * np.log(4))


@pytest.mark.parametrize("content", ["not json", json.dumps({"weights": {}}), json.dumps({"wieghts": {"adapter": 1}})])
def test_a_malformed_blend_is_refused(quick_bundle: QuickBundle, content: str, tmp_path: Path) -> None:
    bundle = quick_bundle("acme")
    (bundle.folder / "blend.json").write_text(content)
    with pytest.raises(BundleError, match="not a blend"):
        Tenant.of(seal(bundle.folder, bundle.manifest))
