"""Finding items: what a query and a history say of each."""

from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.search import CatalogIndex


def catalog(**descriptions: str) -> Catalog:
    return Catalog(
        {
            name: Item(name, name, {"id": name, "title": name, "description": text})
            for name, text in descriptions.items()
        }
    )


def test_a_history_is_searched_for_by_its_titles_alone() -> None:
    items = catalog(tent="sleeps two beside the stove", peg="holds a tent", stove="boils water", kettle="for the stove")
    index = CatalogIndex(items)
    pool = ["peg", "stove", "kettle"]
    words = index.scores("", [items["tent"]], pool)["bm25"]
    assert words[0] > words[1] == words[2] == 0
    asked = index.scores("stove", [items["tent"]], pool)["bm25"]
    assert min(asked) > 0
    assert next(iter(index.search("", [items["tent"]], pool, top=3))) == "peg"
