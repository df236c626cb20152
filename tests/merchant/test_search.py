"""Finding items: what a query and a history say of each."""

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from numpy.typing import NDArray

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


def by_word(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that know which of three words a text has."""
    vectors = np.array([[0.01 + text.count(word) for word in ("tent", "stove", "lamp")] for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_words_say_what_is_near_and_a_history_is_a_way_of_its_own_beside_them() -> None:
    items = catalog(tent="a tent", stove="a stove", lamp="a lamp")
    index, pool = CatalogIndex(items, by_word), list(items)
    words = index.scores("lamp please", [], pool)
    both = index.scores("lamp please", [items["tent"]], pool)
    np.testing.assert_allclose(both["minilm"], words["minilm"])
    assert both["minilm"].argmax() == 2
    assert both["history"].argmax() == 0
    assert "history" not in words
    alone = index.scores("", [items["tent"]], pool)
    assert alone["minilm"].argmax() == 0
    assert "history" not in alone
    found = index.search("lamp please", [items["tent"]], ["stove", "lamp"], top=2)
    assert list(found) == ["lamp", "stove"]
    assert set(found["lamp"]) == {"bm25", "minilm", "history"}


def test_only_what_is_wanted_is_computed() -> None:
    items = catalog(tent="a tent", stove="a stove")
    index = CatalogIndex(items, by_word)
    past = [items["stove"]]
    assert set(index.scores("tent", past, ["tent"], {"history"}.__contains__)) == {"history"}
    assert set(index.scores("tent", past, ["tent"], {"minilm"}.__contains__)) == {"minilm"}
    assert set(CatalogIndex(items).scores("tent", [], ["tent"])) == {"bm25"}


WORDS = ("tent", "stove", "lamp", "blue")


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=1, max_size=30),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=2),
    st.sets(st.integers(0, 29)),
    st.integers(1, 12),
)
def test_a_search_finds_what_fusing_all_ranks_finds(
    texts: list[list[str]], query: list[str], left_out: set[int], top: int
) -> None:
    """Equal scores, of which there are many here, keep the order of the catalog."""
    items = catalog(**{f"item{number}": " ".join(words) for number, words in enumerate(texts)})
    index, asked = CatalogIndex(items, by_word), " ".join(query)
    allowed = tuple(name for number, name in enumerate(items) if number not in left_out)
    fused = dict.fromkeys(allowed, 0.0)
    for scores in index.scores(asked, [], allowed).values():
        by_item = dict(zip(allowed, scores, strict=True))
        for rank, name in enumerate(sorted(allowed, key=lambda each: -by_item[each])):
            fused[name] += 1 / (61 + rank) if by_item[name] > 0 else 0
    expected = sorted(allowed, key=lambda each: -fused[each])[:top]
    assert list(index.search(asked, [], allowed, top)) == expected
    assert list(index.search(asked, [], allowed, top)) == expected, "the same tuple again"
    assert list(index.search(asked, [], list(allowed), top)) == expected


def test_a_search_passes_over_items_that_an_older_index_does_not_hold() -> None:
    index = CatalogIndex(catalog(tent="a tent", stove="a stove"), by_word)
    allowed = ("lamp", "stove", "tent")
    for _ in range(2):
        assert list(index.search("tent", [], allowed, top=3)) == ["tent", "stove"]
    assert index.search("tent", [], ("lamp",), top=3) == {}
    assert list(index.search("tent", [], ("stove",), top=3)) == ["stove"]
