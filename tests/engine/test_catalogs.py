"""A catalog that changes: the next answer goes by its prices, the search index follows, and nobody waits for it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.engine.gate import GUARD

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import Engine, RankRequest, RecommendRequest, Tenant
from shopfit.errors import RequestError, ShopfitError
from shopfit.evaluation.contenders import bare
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.item_rules import Rules
from shopfit.tasks.rank import RankFusion

QuickBundle = Callable[..., Bundle]
NAMES = ["red tent", "blue tent", "gas stove", "head lamp", "warm bag"] + [f"mug {number}" for number in range(60)]


def shop(**changes: dict[str, Any]) -> Catalog:
    rows = {
        name: {"id": name, "title": name, "price": 10.0, **changes.get(name.replace(" ", "_"), {})} for name in NAMES
    }
    return Catalog({name: Item(name, str(row["title"]), row) for name, row in rows.items()})


class Encoder:
    """Turns texts into vectors, remembers which, and can be kept from it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any(text in NAMES or text.startswith("new") for text in texts):
            assert self.go.wait(GUARD)
        self.seen += texts
        counts = np.array([[1 + text.count(letter) for letter in "abcdeghilmnoprstuvw"] for text in texts], float)
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def encoder_() -> Encoder:
    return Encoder()


@pytest.fixture
def engine(base: Base, encoder_: Encoder) -> Iterator[Engine]:
    with Engine(base, embed=encoder_) as engine:
        yield engine


@pytest.fixture
def tenant(quick_bundle: QuickBundle) -> Tenant:
    return replace(Tenant.of(quick_bundle("acme", task="rank")), catalog=shop())


def found(engine: Engine, tenant: Tenant, **options: Any) -> set[str]:
    return {item.id for item in engine.recommend(tenant, query="tent", k=70, **options).items}


def test_an_index_is_made_once_however_many_ask_for_it(engine: Engine, tenant: Tenant, encoder_: Encoder) -> None:
    encoder_.go.clear()
    futures = [engine.submit(RecommendRequest(tenant, {"query": "tent"}, 3)) for _ in range(8)]
    encoder_.go.set()
    assert all(future.result(GUARD).items for future in futures)
    assert sorted(text for text in encoder_.seen if text in NAMES) == sorted(NAMES)


def test_a_new_price_reaches_the_next_answer_and_costs_no_vector(
    engine: Engine, tenant: Tenant, encoder_: Encoder
) -> None:
    assert "red tent" in found(engine, tenant, rules=Rules(max_price=15))
    before = len([text for text in encoder_.seen if text in NAMES])
    engine.set_catalog("acme", shop(red_tent={"price": 99.0}))
    assert "red tent" not in found(engine, tenant, rules=Rules(max_price=15))
    assert "blue tent" in found(engine, tenant, rules=Rules(max_price=15))
    engine.set_catalog("acme", None)
    assert "red tent" in found(engine, tenant, rules=Rules(max_price=15))
    assert len([text for text in encoder_.seen if text in NAMES]) == before


def test_the_old_index_serves_until_the_new_one_is_there(engine: Engine, tenant: Tenant, encoder_: Encoder) -> None:
    found(engine, tenant)
    encoder_.go.clear()
    engine.set_catalog("acme", shop(gas_stove={"title": "new tent stove", "price": 5.0}))  # returns at once
    cheap = found(engine, tenant, rules=Rules(max_price=6))  # while its vector cannot be made
    assert cheap == {"gas stove"}
    encoder_.go.set()
    while "new tent stove" not in encoder_.seen:
        threading.Event().wait(0.001)
    assert encoder_.seen.count("red tent") == 1


def test_an_item_that_is_not_sold_any_more_is_not_found(engine: Engine, tenant: Tenant, encoder_: Encoder) -> None:
    found(engine, tenant)
    encoder_.go.clear()
    left = Catalog({name: item for name, item in shop().items() if name != "red tent"})
    new = Item("new tent", "new tent", {"id": "new tent", "title": "new tent", "price": 1.0})
    engine.set_catalog("acme", Catalog({**left, "new tent": new}))
    assert "red tent" not in found(engine, tenant)
    encoder_.go.set()
    while "new tent" not in found(engine, tenant):
        threading.Event().wait(0.001)


def test_no_other_merchant_waits_for_an_index(
    engine: Engine, tenant: Tenant, quick_bundle: QuickBundle, encoder_: Encoder
) -> None:
    encoder_.go.clear()
    waiting = [engine.submit(RecommendRequest(tenant, {"query": "tent"}, 3)) for _ in range(20)]
    blend = RankFusion(weights={"adapter": 1.0})
    other = replace(Tenant.of(quick_bundle("beta", seed=1, task="rank")), blend=blend)
    assert engine.submit(RankRequest(other, {"query": "tent"})).result(GUARD)
    assert not any(future.done() for future in waiting)
    encoder_.go.set()
    assert all(future.result(GUARD) for future in waiting)


def test_an_encoder_that_fails_fails_its_requests_and_is_asked_again(base: Base, tenant: Tenant) -> None:
    calls: list[int] = []
    works = Encoder()

    def fails_once(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.append(len(texts))
        if len(calls) == 1:
            raise MemoryError("no room")
        return works(texts)

    with Engine(base, embed=fails_once) as engine:
        with pytest.raises(ShopfitError, match="no room"):
            engine.submit(RecommendRequest(tenant, {"query": "tent"}, 3)).result(GUARD)
        assert engine.submit(RecommendRequest(tenant, {"query": "tent"}, 3)).result(GUARD).items  # type: ignore[union-attr]


def test_the_bare_base_is_its_merchants(engine: Engine, tenant: Tenant) -> None:
    """For comparison it ranks the same items: what a merchant is, is no part of a name that is shown."""
    plain = bare(tenant)
    assert plain.merchant == "acme"
    engine.set_catalog("acme", shop(red_tent={"price": 99.0}))
    assert "red tent" not in found(engine, plain, rules=Rules(max_price=15))


def test_a_name_that_looks_like_another_merchants_is_a_name(engine: Engine, tenant: Tenant) -> None:
    engine.set_catalog("acme", shop(red_tent={"price": 99.0}))
    stranger = replace(tenant, name="acme/product-recommendation", merchant="acme-too", bundle=None)
    assert "red tent" in found(engine, stranger, rules=Rules(max_price=15))


def test_what_is_no_catalog_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="is a dict"):
        engine.set_catalog("acme", {"x": 1})  # type: ignore[arg-type]


def test_prices_of_several_currencies_are_not_compared(engine: Engine, tenant: Tenant) -> None:
    mixed = shop(red_tent={"currency": "EUR"}, blue_tent={"currency": "JPY", "price": 9000.0})
    engine.set_catalog("acme", mixed)
    with pytest.raises(RequestError, match="EUR, JPY"):
        engine.recommend(tenant, query="tent", rules=Rules(max_price=15))
    euros = found(engine, tenant, rules=Rules(max_price=15, currency="EUR"))
    assert "red tent" in euros
    assert "blue tent" not in euros
    assert "blue tent" in found(engine, tenant)
