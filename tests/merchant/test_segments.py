"""Segments: BM25 as a library has it, however often texts came and went."""

import numpy as np
import pytest
from bm25s import BM25, tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfit.merchant.segments import Segment, TextIndex, covering, keys_of, words_of

TEXT = st.lists(
    st.sampled_from(["tent", "stove", "lamp", "Zelt", "für", "zwei", "a", "I's", "x2", "two-man"]), max_size=6
).map(" ".join)


def segment(texts: list[str], width: int = 4) -> Segment:
    """A segment with vectors that only the texts decide."""
    draws = [np.random.default_rng(int(key[0])).normal(size=width) for key in keys_of(texts)]
    vectors = np.array(draws, np.float32).reshape(len(texts), width)
    return Segment.of(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9))


def index(texts: list[str], segments: list[Segment]) -> TextIndex:
    used, rows = covering(keys_of(texts), segments)
    assert (rows >= 0).all()
    return TextIndex(used, rows)


def by_library(texts: list[str], query: str) -> np.ndarray:
    *tokens, words = tokenize([*texts, query], stopwords=None, return_ids=False, show_progress=False)
    known = {word for words in tokens for word in words}
    asked = [word for word in words if word in known]
    if not asked:
        return np.zeros(len(texts))
    library = BM25()
    library.index(tokens, show_progress=False)
    return library.get_scores(asked)


@settings(max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=12), TEXT)
def test_scores_are_those_of_bm25s(texts: list[str], query: str) -> None:
    found = index(texts, [segment(list(dict.fromkeys(texts)))]).words(query)
    np.testing.assert_allclose(found, by_library(texts, query), atol=1e-5)


@settings(max_examples=60)
@given(st.lists(st.lists(TEXT, min_size=1, max_size=6), min_size=1, max_size=5), TEXT, st.data())
def test_an_index_of_many_segments_is_one_made_anew(parts: list[list[str]], query: str, data: st.DataObject) -> None:
    every = sorted({text for part in parts for text in part})
    kept = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=8))
    segments = [segment(part) for part in parts]
    new = index(kept, [segment(list(dict.fromkeys(kept)))])
    asked = segment([query]).vectors
    for grown in (index(kept, segments), index(kept, [Segment.join(segments)])):
        np.testing.assert_allclose(grown.words(query), new.words(query), atol=1e-9)
        np.testing.assert_allclose(grown.nearest(asked), new.nearest(asked), atol=1e-6)


def test_joined_segments_hold_what_is_live_alone() -> None:
    texts = ["a red tent", "a gas stove", "an old lamp"]
    segments = [segment(texts[:2]), segment(texts[2:])]
    _, rows = covering(keys_of(["an old lamp", "a red tent"]), segments)
    joined = Segment.join(segments, rows)
    assert len(joined) == 2
    assert joined.find(keys_of(texts)).tolist() == [0, -1, 1] or joined.find(keys_of(texts)).tolist() == [1, -1, 0]


@pytest.mark.parametrize("texts", [[], [""], ["", "a"]])
def test_texts_without_words_are_found_by_none(texts: list[str]) -> None:
    assert index(texts, [segment(texts)]).words("tent").tolist() == [0] * len(texts)
    assert words_of("x 1") == []
