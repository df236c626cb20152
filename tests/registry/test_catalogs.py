"""Catalogs in the registry: put, patched by several at once, read, dropped, erased; and what none may be."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.registry.conftest import MakeBundle, at_once
from tests.registry.test_keys import change

from shopfit.adapter.bundle import Bundle, seal
from shopfit.errors import DataError, RegistryError, UnknownReference
from shopfit.merchant.catalog import Catalog
from shopfit.registry import Registry
from shopfit.settings import Settings

TENT = {"id": "tent", "title": "Ridge tent", "price": 129.5, "in_stock": True, "season": ["spring", "summer"]}
BAG = {"id": "bag", "title": "Down bag", "description": "5 &lt; 6 <b>warm</b>"}


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """acme and other have keys."""
    for name in ("acme", "other"):
        registry.create_key(name, ["publish"], new=True, actor="ada")
    return registry


def rows(catalog: Catalog | None) -> dict[str, dict[str, object]]:
    assert catalog is not None
    return {item.id: dict(item.fields) for item in catalog.values()}


def with_catalog(bundle: Bundle, *items: dict[str, object]) -> Bundle:
    (bundle.folder / "catalog.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return seal(bundle.folder, bundle.manifest)


def blobs(place: Settings) -> int:
    return sum(path.is_file() for path in Path(place.blobs).glob("??/*"))


def test_a_catalog_is_put_and_read(filled: Registry) -> None:
    assert filled.catalog("acme") is filled.stored_catalog("acme") is None
    stored = filled.put_catalog("acme", [TENT, BAG], actor="ada")
    assert (stored.merchant, stored.items, stored.actor, stored.base) == ("acme", 2, "ada", "")
    assert datetime.now(UTC) - timedelta(hours=1) < stored.changed <= datetime.now(UTC)
    assert rows(filled.catalog("acme")) == {"tent": TENT, "bag": BAG | {"description": "5 < 6 warm"}}
    assert filled.stored_catalog("acme") == stored
    assert filled.catalogs() == {"acme": stored.digest}
    assert filled.catalog("other") is None
    again = filled.put_catalog("acme", [TENT, BAG], actor="bob")
    assert (again.digest, again.actor) == (stored.digest, "bob")
    fewer = filled.put_catalog("acme", [BAG], actor="bob")
    assert list(rows(filled.catalog("acme"))) == ["bag"]
    assert filled.catalogs() == {"acme": fewer.digest}
    assert [(one.actor, one.detail) for one in filled.audit("acme") if one.action == "catalog"] == [
        ("ada", f"2 items; digest {stored.digest}"),
        ("bob", f"2 items; digest {stored.digest}"),
        ("bob", f"1 items; digest {fewer.digest}"),
    ]


def test_what_is_replaced_leaves_no_file(filled: Registry, place: Settings) -> None:
    if place.blobs.startswith("memory"):
        pytest.skip("its blobs are in no folder")
    for price in range(5):
        filled.put_catalog("acme", [TENT | {"price": price}], actor="ada")
        filled.patch_catalog("acme", {"tent": {"price": price + 0.5}}, actor="ada")
    assert blobs(place) == 1
    filled.put_catalog("other", [TENT | {"price": 4.5}], actor="ada")  # the same content
    filled.put_catalog("acme", [BAG], actor="ada")
    assert blobs(place) == 2
    assert rows(filled.catalog("other"))["tent"]["price"] == 4.5
    assert filled.collect_garbage(grace=timedelta(0)).count == 0
    for name in ("acme", "other"):
        filled.drop_catalog(name, actor="ada")
    assert blobs(place) == 0


def test_every_bad_item_is_told_and_nothing_is_stored(filled: Registry) -> None:
    items = [
        TENT,
        BAG | {"id": "tent"},
        {"id": "x", "title": ""},
        {"id": "y", "title": "Lamp", "price": -1, "in_stock": "maybe"},
        {"id": "z", "title": "Half \ud83d"},
        {"id": "i", "title": "Endless", "weight": float("inf")},
        {"id": "d", "title": "Deep", "parts": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
        {"id": "o", "title": "Object", "made": object()},
        "tent",
        {"id": "n", "title": "Number", 7: 7},
    ]
    with pytest.raises(DataError) as caught:
        filled.put_catalog("acme", items, actor="ada")
    wheres = {problem.where for problem in caught.value.problems}
    named = {"catalog:2 id", "catalog:3 title", "catalog:4 price", "catalog:4 in_stock", "catalog:5", "catalog:6"}
    assert wheres >= named | {"catalog:8", "catalog:9", "catalog:10"}
    assert any(where.startswith("catalog:7") for where in wheres)
    assert filled.catalogs() == {}


@pytest.mark.parametrize("items", [[], [{}], [{"title": "no id"}], [{"id": "no title"}], [[1]], [None]])
def test_items_that_make_no_catalog(filled: Registry, items: list[dict[str, object]]) -> None:
    with pytest.raises(DataError) as caught:
        filled.put_catalog("acme", items, actor="ada")
    assert caught.value.problems
    assert "data.columns" not in str(caught.value)


@pytest.mark.parametrize("items", [None, "[]", {"tent": TENT}, 7, iter([TENT])])
def test_what_is_no_list_of_items(filled: Registry, items: list[dict[str, object]]) -> None:
    with pytest.raises(RegistryError, match=r"items is .*allowed: a list of mappings"):
        filled.put_catalog("acme", items, actor="ada")


def test_a_merchant_of_which_there_is_nothing(filled: Registry) -> None:
    with pytest.raises(UnknownReference, match="nothing of a merchant 'acmee' in the registry; did you mean 'acme'"):
        filled.put_catalog("acmee", [TENT], actor="ada")
    with pytest.raises(UnknownReference, match="there is no catalog of acmee to be patched"):
        filled.patch_catalog("acmee", {"tent": TENT}, actor="ada")
    assert filled.catalogs() == {}


def test_a_patch_changes_what_it_names(filled: Registry) -> None:
    first = filled.put_catalog("acme", [TENT, BAG], actor="ada")
    lamp = {"title": "Head lamp", "price": "12,50 €", "image": "lamp.png"}
    changes = {"tent": {"in_stock": "sold out", "price": None, "season": ["winter"]}, "lamp": lamp}
    stored = filled.patch_catalog("acme", changes, actor="bob")
    assert (stored.items, stored.actor, stored.base) == (3, "bob", "")
    assert stored.digest != first.digest
    assert rows(filled.catalog("acme")) == {
        "tent": {"id": "tent", "title": "Ridge tent", "in_stock": False, "season": ["winter"]},
        "bag": BAG | {"description": "5 < 6 warm"},
        "lamp": {"id": "lamp", "title": "Head lamp", "price": 12.5, "currency": "EUR", "image": "lamp.png"},
    }
    filled.patch_catalog("acme", {"tent": None, "never-there": None}, actor="bob")
    assert list(rows(filled.catalog("acme"))) == ["bag", "lamp"]
    assert [one.action for one in filled.audit("acme")].count("catalog") == 1  # patches are not in the audit
    assert filled.stored_catalog("acme").actor == "bob"


def test_what_a_patch_does_not_name_stays_to_the_letter(filled: Registry) -> None:
    """A text that was read as HTML once is not read so again."""
    filled.put_catalog("acme", [BAG | {"description": "a &lt;b&gt; c &amp;amp; d"}], actor="ada")
    before = rows(filled.catalog("acme"))["bag"]
    assert before["description"] == "a <b> c &amp; d"
    for turn in range(3):
        filled.patch_catalog("acme", {"bag": {"price": turn}}, actor="ada")
    assert rows(filled.catalog("acme"))["bag"] == before | {"price": 2}


def test_every_bad_change_is_told_and_none_is_made(filled: Registry) -> None:
    filled.put_catalog("acme", [TENT, BAG], actor="ada")
    before = filled.stored_catalog("acme")
    with pytest.raises(DataError) as caught:
        filled.patch_catalog("acme", {"tent": {"price": -1}, "bag": {"title": None, "in_stock": "maybe"}}, actor="ada")
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres == ["item 'tent' price", "item 'bag' title", "item 'bag' in_stock"]
    bad: list[tuple[object, str]] = [
        ({"lamp": {"price": 1}}, "item 'lamp' title: is missing"),
        ({"tent": {"id": "bag"}}, "item 'tent' id: 'bag' is another item's"),
        ({"tent": 7}, "item 'tent': 7 is no change"),
        ({"": {"title": "x"}}, "item '': has no id"),
        ({" tent": {"price": 1}, "tent": {"price": 2}}, "is named twice"),
        ({"tent": None, "bag": None}, "no item would be left"),
        ({"tent": {"x": float("inf")}}, "item 'tent'"),
        ({"tent": {"x": "\ud83d"}}, "item 'tent'"),
        ({"tent": {1: 1}}, "item 'tent'"),
        ({}, "changes nothing"),
        (None, "changes nothing"),
        ([{"id": "tent"}], "changes nothing"),
    ]
    for changes, said in bad:
        with pytest.raises(DataError) as caught:
            filled.patch_catalog("acme", changes, actor="ada")
        assert said in str(caught.value)
    assert filled.stored_catalog("acme") == before


def test_columns_of_a_shop_system_are_fields_as_any_others(filled: Registry) -> None:
    """A program gives rows of ours: what its fields are called makes it no export."""
    shopify = {"Handle": "tent", "Variant SKU": "1", "Variant Price": "3", "Option1 Value": "red", "Image Src": "x"}
    filled.put_catalog("acme", [TENT | shopify], actor="ada")
    filled.patch_catalog("acme", {"tent": {"Variant Price": "4"}}, actor="ada")
    assert rows(filled.catalog("acme")) == {"tent": TENT | shopify | {"Variant Price": "4"}}


def test_a_first_patch_begins_from_what_is_in_production(filled: Registry, make_bundle: MakeBundle) -> None:
    article = {"id": "article", "title": "How to pitch a tent"}
    products = filled.publish(with_catalog(make_bundle(recipe="products"), TENT, BAG), promote=True, actor="ada")
    filled.publish(with_catalog(make_bundle(recipe="products", seed=1), TENT), promote=False, actor="ada")
    articles = filled.publish(with_catalog(make_bundle(recipe="articles"), article), promote=True, actor="ada")
    filled.publish(make_bundle(), promote=True, actor="ada")  # has none
    filled.publish(with_catalog(make_bundle("other"), TENT), promote=True, actor="ada")
    stored = filled.patch_catalog("acme", {"bag": {"price": 99}}, actor="ada")
    assert (stored.base, stored.items) == (products.name, 2)
    assert rows(filled.catalog("acme"))["bag"]["price"] == 99
    assert filled.audit("acme")[-1].detail == f"2 items, from {products.name}; digest {stored.digest}"
    assert filled.catalog("other") is None
    filled.drop_catalog("acme", actor="ada")
    assert filled.patch_catalog("acme", {"new": {"title": "New"}}, actor="ada").base == articles.name  # the newest


def test_patches_at_the_same_time_all_take_effect(durable: Settings) -> None:
    """Of several threads, and of several registries, as several processes have them."""
    with Registry.open(durable) as registry:
        registry.create_key("acme", ["publish"], new=True, actor="ada")
        registry.put_catalog("acme", [TENT], actor="ada")
        with Registry.open(durable) as another:

            def patch(turn: int) -> None:
                for number in range(5):
                    (registry, another)[turn % 2].patch_catalog(
                        "acme", {f"{turn}-{number}": {"title": "x"}}, actor="ada"
                    )

            at_once(4, patch)
        wanted = {"tent"} | {f"{turn}-{number}" for turn in range(4) for number in range(5)}
        assert set(rows(registry.catalog("acme"))) == wanted
        assert blobs(durable) == 1


def test_first_patches_at_the_same_time_all_take_effect(durable: Settings, make_bundle: MakeBundle) -> None:
    """Also where no row is there yet that could be locked."""
    with Registry.open(durable) as registry:
        registry.publish(with_catalog(make_bundle(), TENT), promote=True, actor="ada")

    def patch(turn: int) -> None:
        with Registry.open(durable) as own:
            own.patch_catalog("acme", {f"new-{turn}": {"title": "x"}}, actor="ada")

    at_once(4, patch)
    with Registry.open(durable) as registry:
        assert set(rows(registry.catalog("acme"))) == {"tent", *(f"new-{turn}" for turn in range(4))}


def test_reading_while_it_is_replaced(durable: Settings) -> None:
    with Registry.open(durable) as registry:
        registry.create_key("acme", ["publish"], new=True, actor="ada")
        registry.put_catalog("acme", [TENT | {"price": 0}], actor="ada")
        over = threading.Event()
        seen: list[int] = []

        def replace_or_read(turn: int) -> None:
            try:
                for price in range(1, 40 if turn == 0 else 1):
                    registry.put_catalog("acme", [TENT | {"price": price}], actor="ada")
                while turn and not over.is_set():
                    seen.append(rows(registry.catalog("acme"))["tent"]["price"])
            finally:
                over.set()

        at_once(2, replace_or_read)
    assert seen == sorted(seen)


def test_a_damaged_catalog_is_told(filled: Registry, place: Settings) -> None:
    if place.blobs.startswith("memory"):
        pytest.skip("its blobs are in no folder")
    stored = filled.put_catalog("acme", [TENT], actor="ada")
    blob = Path(place.blobs) / stored.digest[:2] / stored.digest
    for damage in (lambda: blob.write_text("{}\n"), blob.unlink):
        damage()
        for call in (
            lambda: filled.catalog("acme"),
            lambda: filled.patch_catalog("acme", {"tent": {"price": 1}}, actor="ada"),
        ):
            with pytest.raises(RegistryError, match="the catalog of acme in the registry is damaged") as caught:
                call()
            assert "put the whole catalog again" in caught.value.next_step
    change(place, "UPDATE shopfit_catalogs SET digest = '../../registry.db'")
    with pytest.raises(RegistryError, match="is damaged"):
        filled.catalog("acme")
    assert filled.put_catalog("acme", [TENT], actor="ada").digest == stored.digest
    assert rows(filled.catalog("acme")) == {"tent": TENT}


def test_dropping_it_goes_back_to_the_bundles(filled: Registry) -> None:
    stored = filled.put_catalog("acme", [TENT], actor="ada")
    assert filled.drop_catalog("acme", actor="eve") == stored
    assert filled.catalog("acme") is None
    assert (filled.audit("acme")[-1].actor, filled.audit("acme")[-1].action) == ("eve", "catalog-drop")
    with pytest.raises(UnknownReference, match="there is no catalog of acme"):
        filled.drop_catalog("acme", actor="eve")


def test_erasing_a_merchant_takes_its_catalog_and_no_other(filled: Registry, place: Settings) -> None:
    shared = [TENT]
    filled.put_catalog("acme", shared, actor="ada")
    filled.put_catalog("other", shared, actor="ada")
    receipt = filled.erase("acme", place, actor="eve")
    assert (receipt.rows, receipt.blobs.count, receipt.shared_blobs) == ({"catalogs": 1}, 0, 1)
    assert rows(filled.catalog("other")) == {"tent": TENT}
    stored = filled.stored_catalog("other")
    receipt = filled.erase("other", place, actor="eve")
    assert (receipt.blobs.count, receipt.blobs.bytes) == (1, stored.size)
    if not place.blobs.startswith("memory"):
        assert blobs(place) == 0
    with pytest.raises(UnknownReference):
        filled.patch_catalog("acme", {"tent": {"price": 1}}, actor="ada")
    assert "Ridge" not in str(filled.audit())


def test_a_hundred_thousand_items(local: Registry) -> None:
    local.create_key("acme", ["publish"], new=True, actor="ada")
    items = [
        {"id": f"item-{number}", "title": f"Item {number}", "price": number / 100, "in_stock": number % 7 > 0}
        for number in range(100_000)
    ]
    assert local.put_catalog("acme", items, actor="ada").items == 100_000
    local.patch_catalog("acme", {"item-99999": {"in_stock": False}, "item-5": None}, actor="ada")
    catalog = local.catalog("acme")
    assert len(catalog) == 99_999
    assert catalog["item-99999"].fields["in_stock"] is False
