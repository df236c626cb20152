"""Texts are ranked as the items of a merchant without a catalog are, and every ranking says how sure it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.conftest import ITEMS
from tests.engine.encoder_bundles import maker_on
from tests.engine.test_fused_scores import by_letters

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import Engine, RankedItem, RankRequest, Tenant
from shopfit.errors import RequestError
from shopfit.tasks.rank import RankFusion

QuickBundle = Callable[..., Bundle]
TEXTS = ["Boots for rain", "Stove", "a tent", "0", "Warm bag, and long text " * 30, "stove"]
QUERY = {"query": "boots for rain"}
PARTS = {"adapter": 0.5, "popularity": 2.0, "bm25": 1.0, "minilm": 0.3, "history": 0.4}
POPULAR = {"tent": 9, "a tent": 5, "0": 7, "1": 3}


@pytest.fixture
def ranker(base: Base, quick_bundle: QuickBundle) -> Tenant:
    return Tenant.of(quick_bundle("acme", task="rank"))


def by_place(items: tuple[RankedItem, ...]) -> list[float]:
    scores = {item.place: item.score for item in items}
    return [scores[place] for place in range(len(scores))]


@pytest.mark.parametrize("blend", [None, RankFusion(weights=PARTS, popularity=POPULAR)], ids=["alone", "blend"])
@pytest.mark.parametrize("kind", ["base", "encoder"])
def test_they_are_scored_as_titles_without_a_catalog(
    request: pytest.FixtureRequest, quick_bundle: QuickBundle, tmp_path: Path, kind: str, blend: RankFusion | None
) -> None:
    loaded: Base = request.getfixturevalue(kind)
    bundle = quick_bundle("acme", task="rank") if kind == "base" else maker_on(loaded, tmp_path)("acme", "rank")
    tenant = replace(Tenant.of(bundle), blend=blend)
    unpopular = None if blend is None else RankFusion(weights=PARTS)
    with Engine(loaded, embed=by_letters) as engine:
        for fields in (QUERY, {"query": "cook", "history": ["tent"]}):
            bare = replace(tenant, catalog=None, history=tenant.catalog, blend=unpopular)
            wanted = engine.rank([RankRequest(bare, fields, TEXTS, 9)])[0]
            for adapter in (tenant, bare, replace(bare, blend=blend)):
                found = engine.rank([RankRequest(adapter, fields, documents=TEXTS, top=9)])[0]
                assert by_place(found.items) == pytest.approx(by_place(wanted.items), abs=1e-4)
                assert [item.title for item in found.items] == [TEXTS[item.place] for item in found.items]
                assert [item.id for item in found.items] == [str(item.place) for item in found.items]


def test_the_same_text_twice_has_two_places(base: Base, ranker: Tenant) -> None:
    with Engine(base) as engine:
        answer = engine.rank([RankRequest(ranker, QUERY, documents=["tent", "stove", "tent"], top=9)])[0]
    assert sorted(item.place for item in answer.items) == [0, 1, 2]
    scores = by_place(answer.items)
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"documents": "tent"}, "allowed: a list of texts"),
        ({"documents": ["tent", " "]}, r"documents\[1\] is ' ' \(allowed: text that shows something"),
        ({"documents": [7]}, r"documents\[0\] is 7"),
        ({"documents": ["a\ud800"]}, r"documents\[0\] holds half a character"),
        ({"documents": ["tent"], "candidates": ["tent"]}, "given beside candidates"),
        ({"documents": ["tent"] * 10_001}, "a list of 10001 .allowed: 10000 at most"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(base: Base, ranker: Tenant, options: dict[str, Any], message: str) -> None:
    with Engine(base) as engine, pytest.raises(RequestError, match=message):
        engine.rank([RankRequest(ranker, QUERY, **options)])


def test_no_texts_have_no_ranking(base: Base, ranker: Tenant) -> None:
    with Engine(base) as engine:
        answer = engine.rank([RankRequest(ranker, QUERY, documents=[])])[0]
    assert (answer.items, answer.read, answer.waited) == ((), 0, 0.0)


def test_as_many_texts_as_are_allowed_push_no_item_out_of_the_cache(encoder: Base, tmp_path: Path) -> None:
    tenant = Tenant.of(maker_on(encoder, tmp_path)("acme", "rank"))
    texts = [f"mug {number}" for number in range(10_000)]
    with Engine(encoder) as engine:
        first = engine.rank([RankRequest(tenant, QUERY)])[0]
        known = engine.rank([RankRequest(tenant, QUERY)])[0]
        many = engine.rank([RankRequest(tenant, QUERY, documents=texts, top=10_000)])[0]
        still = engine.rank([RankRequest(tenant, QUERY)])[0]
    assert first.read > known.read == still.read
    assert len(many.items) == len(texts)
    assert sum(item.share for item in many.items) == pytest.approx(1)
    assert len({item.place for item in many.items}) == len(texts)


@pytest.mark.parametrize("blend", [None, RankFusion(weights=PARTS, popularity=POPULAR)], ids=["alone", "blend"])
def test_shares_are_the_softmax_that_was_trained(
    base: Base, quick_bundle: QuickBundle, blend: RankFusion | None
) -> None:
    known = Tenant.of(quick_bundle("acme", task="rank", tune={"temperature": 0.4}))
    tenant = replace(known, blend=blend)
    unit = 1.0 if blend else 0.4
    with Engine(base, embed=by_letters) as engine:
        answers = [
            engine.rank([RankRequest(tenant, QUERY, list(ITEMS), 9)])[0],
            engine.rank([RankRequest(tenant, QUERY, documents=TEXTS, top=9)])[0],
            engine.rank([RankRequest(tenant, QUERY, top=9)])[0],
            engine.recommend(tenant, query="boots for rain", k=9),
        ]
        best = engine.rank([RankRequest(tenant, QUERY, list(ITEMS), 1)])[0]
    for answer in answers:
        raised = np.exp(np.array([item.score for item in answer.items]) / unit)
        assert [item.share for item in answer.items] == pytest.approx(raised / raised.sum(), abs=1e-6)
        assert sum(item.share for item in answer.items) == pytest.approx(1)
        assert sorted(item.place for item in answer.items) == list(range(len(answer.items)))
    assert best.items == answers[0].items[:1]  # of all that were ranked, however many are returned
    assert [list(ITEMS)[item.place] for item in answers[0].items] == [item.id for item in answers[0].items]
    offered = [name for name, item in ITEMS.items() if item.fields["in_stock"]]
    assert [offered[item.place] for item in answers[2].items] == [item.id for item in answers[2].items]
