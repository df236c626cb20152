"""Recommendations: found by search, sorted out by rules, ranked by the merchant's adapter, with reasons."""

import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, RankRequest, RecommendRequest, Tenant
from shopfit.errors import RecipeError, RequestError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.item_rules import Rules
from shopfit.tasks.rank import RankFusion

QuickBundle = Callable[..., Bundle]
SHOP: dict[str, dict[str, Any]] = {
    "tent": {"title": "Ridge tent for two", "price": 199, "brand": "Ridge"},
    "tarp": {"title": "Tarp tent, light", "price": 89, "brand": "Fjell"},
    "bag": {"title": "Down sleeping bag", "price": 149, "brand": "Ridge"},
    "stove": {"title": "Gas stove", "price": 39, "brand": "Fjell", "min_age": 16},
    "knife": {"title": "Folding knife", "price": 29, "brand": "Skarn", "min_age": 18},
    "lamp": {"title": "Head lamp", "price": 25, "in_stock": False},
    "gift": {"title": "Gift card for a tent"},
}


def catalog(**changes: dict[str, Any]) -> Catalog:
    rows = {item: {"id": item, **fields, **changes.get(item, {})} for item, fields in SHOP.items()}
    return Catalog({item: Item(item, fields["title"], fields) for item, fields in rows.items()})


def by_letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that know which letters a text has."""
    counts = np.array([[text.lower().count(letter) for letter in string.ascii_lowercase] for text in texts], float)
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def tenant(quick_bundle: QuickBundle) -> Tenant:
    known = Tenant.of(quick_bundle("trailhead", task="rank"))
    return Tenant(known.name, known.recipe, catalog=catalog(), bundle=known.bundle)


@pytest.fixture
def engine(base: Base) -> Engine:
    return Engine(base, embed=by_letters)


def ids(engine: Engine, tenant: Tenant, **options: Any) -> set[str]:
    return {item.id for item in engine.recommend(tenant, k=10, **options).items}


def test_the_adapter_ranks_what_search_found_and_reasons_tell(engine: Engine, tenant: Tenant) -> None:
    answer = engine.recommend(tenant, query="tent", k=3)
    assert len(answer.items) == 3
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    for item in answer.items:
        assert item.title == SHOP[item.id]["title"]
        assert set(item.reasons) == {"bm25", "minilm", "adapter"}
        assert item.reasons["adapter"] == item.score
        assert (item.reasons["bm25"] > 0) == ("tent" in item.title.lower())
    everything = engine.recommend(tenant, query="tent", k=10)
    ranked = engine.rank([RankRequest(tenant, {"query": "tent"}, [item.id for item in everything.items], top=10)])[0]
    assert [item.id for item in ranked.items] == [item.id for item in everything.items]


def test_what_was_seen_is_weighed_apart_from_the_words(engine: Engine, tenant: Tenant) -> None:
    def best(blend: RankFusion, **options: Any) -> str:
        return engine.recommend(replace(tenant, blend=blend), k=1, **options).items[0].id

    words, past = RankFusion(weights={"minilm": 1.0}), RankFusion(weights={"history": 1.0})
    assert best(words, query="gas stove", history=["bag"]) == best(words, query="gas stove") == "stove"
    others = [item for item in SHOP if item != "tarp"]
    titles = by_letters([SHOP[item]["title"] for item in ["tarp", *others]])
    nearest = others[int((titles[1:] @ titles[0]).argmax())]
    assert best(past, query="gas stove", history=["tarp"]) == nearest != "stove"
    assert best(words, history=["tarp"]) == nearest  # without words, what was seen is all there is
    answer = engine.recommend(tenant, query="gas stove", history=["tarp"], k=3)
    assert all(set(item.reasons) == {"bm25", "minilm", "history", "adapter"} for item in answer.items)


def test_only_as_many_as_the_recipe_retrieves_are_ranked(engine: Engine, quick_bundle: QuickBundle) -> None:
    known = Tenant.of(quick_bundle("few", task="rank", seed=1, serve={"retrieve": 2}))
    tenant = Tenant(known.name, known.recipe, catalog=catalog(), bundle=known.bundle)
    assert ids(engine, tenant, query="tent") <= {"tent", "tarp", "gift"}
    assert len(ids(engine, tenant, query="tent")) == 2


def test_without_an_encoder_words_alone_find(base: Base, tenant: Tenant) -> None:
    answer = Engine(base).recommend(tenant, query="stove", k=10)
    assert set(answer.items[0].reasons) == {"bm25", "adapter"}
    assert "stove" in {item.id for item in answer.items}


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (Rules(), {"tent", "tarp", "bag", "stove", "knife", "gift"}),
        (Rules(in_stock=False), {"tent", "tarp", "bag", "stove", "knife", "gift"}),  # the recipe's own rule holds too
        (Rules(max_price=100), {"tarp", "stove", "knife"}),
        (Rules(min_price=100), {"tent", "bag"}),
        (Rules(min_price=30, max_price=90), {"tarp", "stove"}),
        (Rules(age=17), {"tent", "tarp", "bag", "stove", "gift"}),
        (Rules(blocked_brands=["RIDGE", "skarn"]), {"tarp", "stove", "gift"}),
        (Rules(max_price=1), set()),
    ],
)
def test_rules_sort_out(engine: Engine, tenant: Tenant, rules: Rules, wanted: set[str]) -> None:
    assert ids(engine, tenant, query="tent", rules=rules) == wanted


def test_the_recipe_has_rules_of_its_own(engine: Engine, quick_bundle: QuickBundle) -> None:
    known = Tenant.of(
        quick_bundle("strict", task="rank", seed=1, serve={"rules": {"max_price": 100, "in_stock": False}})
    )
    tenant = Tenant(known.name, known.recipe, catalog=catalog(), bundle=known.bundle)
    assert ids(engine, tenant, query="x") == {"tarp", "stove", "knife", "lamp"}
    assert ids(engine, tenant, query="x", rules=Rules(min_price=30)) == {"tarp", "stove"}


def test_what_was_seen_is_left_out_and_helps_to_find(engine: Engine, tenant: Tenant) -> None:
    found = engine.recommend(tenant, history=["tent"], k=10).items
    assert "tent" not in {item.id for item in found}
    assert {item.id for item in found if item.reasons["bm25"] > 0} >= {"tarp", "gift"}


def test_a_new_catalog_is_used_at_once(engine: Engine, tenant: Tenant) -> None:
    assert "lamp" not in ids(engine, tenant, query="lamp")
    engine.set_catalog("trailhead", catalog(lamp={"in_stock": True}, tent={"in_stock": False}))
    assert "lamp" in ids(engine, tenant, query="lamp")
    assert "tent" not in ids(engine, tenant, query="lamp")
    ranked = engine.rank([RankRequest(tenant, {"query": "x"}, top=10)])[0]
    assert "lamp" in {item.id for item in ranked.items}
    renamed = catalog(lamp={"in_stock": True, "title": "Head torch"})
    engine.set_catalog("trailhead", renamed)
    assert "Head torch" in {item.title for item in engine.recommend(tenant, query="torch", k=10).items}
    engine.set_catalog("trailhead", None)
    assert "lamp" not in ids(engine, tenant, query="lamp")


def test_another_merchants_catalog_stays_its_own(engine: Engine, tenant: Tenant, quick_bundle: QuickBundle) -> None:
    known = Tenant.of(quick_bundle("trail", task="rank", seed=1))
    other = Tenant(known.name, known.recipe, catalog=catalog(), bundle=known.bundle)
    engine.set_catalog("trailhead", catalog(lamp={"in_stock": True}))
    assert "lamp" not in ids(engine, other, query="lamp")


def test_requests_that_cannot_be_answered_say_why(engine: Engine, tenant: Tenant, quick_bundle: QuickBundle) -> None:
    with pytest.raises(RequestError, match="to choose, not to rank"):
        engine.recommend(quick_bundle("chooser", seed=1), query="x")
    with pytest.raises(RequestError, match="no catalog"):
        engine.recommend(Tenant(tenant.name, tenant.recipe, bundle=tenant.bundle), query="x")
    with pytest.raises(RequestError, match="at least one of"):
        engine.recommend(tenant)
    with pytest.raises(RequestError, match="'nope'"):
        engine.recommend(tenant, query="x", history=["nope"])


def test_recommendations_may_be_submitted_too(engine: Engine, tenant: Tenant, quick_bundle: QuickBundle) -> None:
    futures = [
        engine.submit(RecommendRequest(tenant, {"query": "tent"}, 2)),
        engine.submit(ChooseRequest(quick_bundle("chooser", seed=1), {"text": "x"})),
    ]
    assert len(futures[0].result(60).items) == 2  # type: ignore[union-attr]
    assert futures[1].result(60)


def test_rules_in_disorder_are_refused() -> None:
    with pytest.raises(RecipeError, match="above max_price"):
        Rules(min_price=2, max_price=1)
