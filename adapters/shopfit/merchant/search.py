"""Finding items of a catalog by words (BM25) and by meaning (the cosine of an encoder's vectors)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.segments import Floats, Keys, Places, Segment, TextIndex, cover, joined, keys_of

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""N texts that ask -> (N, D) vectors of length 1."""
_FUSED = ("bm25", "minilm")
_CHUNK = 32  # texts that an encoder is asked for at a time, so that other threads can use it in between
_FUSION = 60  # of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)


@runtime_checkable
class Prompted(Protocol):
    """What an `Embed` also is whose encoder has a profile of its own."""

    def items(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) vectors of length 1 of N texts that are found."""

    def similarity(self, cosines: Any) -> Any:
        """Cosines as similarities: 0 for texts that have nothing to do with each other, 1 for equal ones."""


def of_items(embed: Embed) -> Embed:
    """The embedder of texts that are found, where asking ones are written otherwise."""
    return embed.items if isinstance(embed, Prompted) else embed


def similarity(embed: Embed, cosines: Any) -> Any:
    """Cosines of an embedder's vectors as similarities: 0 for texts that have nothing to do with each other."""
    return embed.similarity(cosines) if isinstance(embed, Prompted) else cosines


def direction(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D,) the mean of (N, D) vectors, of length 1."""
    mean: NDArray[np.float32] = vectors.mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def titles_index(titles: Sequence[str], embed: Embed | None) -> "CatalogIndex":
    """An index of plain titles, each its own id: of what a merchant without a catalog ranks."""
    return CatalogIndex(Catalog.of_titles(iter(titles)), embed)


class Source(Protocol):
    """Where an index finds the segments of its texts."""

    def held(self, known: Sequence[Segment]) -> Sequence[Segment]:
        """Segments that are there already, beside those that are known."""

    def made(self, texts: Sequence[str]) -> Sequence[Segment]:
        """Segments that hold N texts, none of which is there twice."""


class InMemory(Source):
    """A source of segments that are made anew and kept nowhere.

    Args:
        embed: turns texts into vectors; None to find by words only.
    """

    def __init__(self, embed: Embed | None) -> None:
        self._embed = embed

    def held(self, known: Sequence[Segment]) -> Sequence[Segment]:  # noqa: ARG002 - there are none
        """None."""
        return ()

    def made(self, texts: Sequence[str]) -> Sequence[Segment]:
        """One segment of them all."""
        if self._embed is None:
            return [Segment.of(texts, np.zeros((len(texts), 0), np.float32))]
        ordered = sorted(texts, key=len)
        embed = of_items(self._embed)
        parts = [embed(ordered[start : start + _CHUNK]) for start in range(0, len(ordered), _CHUNK)]
        return [Segment.of(ordered, np.concatenate(parts))]


class CatalogIndex:
    """An index of one catalog's items, by words and by vectors.

    Args:
        catalog: its items.
        embed: turns texts into vectors; None to find by words only.
        before: an earlier index with the same `embed`: what it holds is not made again.
        source: of the segments that hold other texts; by default they are made and kept in memory.
    """

    def __init__(
        self,
        catalog: Catalog,
        embed: Embed | None = None,
        *,
        before: "CatalogIndex | None" = None,
        source: Source | None = None,
    ) -> None:
        self._texts: TextIndex
        self._embed = embed
        self._items = list(catalog.values())
        self._places: dict[str, int]
        self._keys, rows = self._from(catalog, before)
        segments = [] if before is None else list(before._texts.segments)
        source = source or InMemory(embed)
        cover(self._keys, rows, segments)
        if (rows < 0).any():
            cover(self._keys, rows, segments, source.held(segments))
        if (rows < 0).any():
            new = dict.fromkeys(self._items[place].text for place in np.flatnonzero(rows < 0).tolist())
            cover(self._keys, rows, segments, source.made(list(new)))
        assert (rows >= 0).all(), "a source gives segments that hold what it is asked for"
        self._texts = TextIndex(*joined(segments, self._keys, rows))
        self._allowed: tuple[tuple[str, ...], Sequence[str], Places] | None = None

    def _from(self, catalog: Catalog, before: "CatalogIndex | None") -> tuple[Keys, Places]:
        """(N, 2) keys of the items' texts, and (N,) rows of those that an earlier index has, too; -1 for others."""
        items, old = self._items, [] if before is None else before._items
        same = np.zeros(len(items), bool)
        same[: len(old)] = np.fromiter(map(is_, items, old), bool, min(len(items), len(old)))
        there = np.where(same, np.arange(len(items)), -1)
        others = np.flatnonzero(~same).tolist()  # the rest has nothing to do for items that stayed where they were
        if before is not None and len(items) == len(old) and all(items[at].id == old[at].id for at in others):
            self._places = before._places
        else:
            self._places = dict(zip(catalog, range(len(items)), strict=True))
        for at in others if before is not None and old else ():
            place = before._places.get(items[at].id, -1)  # type: ignore[union-attr]  # there is one
            there[at] = place if old[place] is items[at] else -1
        keys, rows = np.zeros((len(items), 2), np.uint64), np.full(len(items), -1, np.int64)
        kept, new = np.flatnonzero(there >= 0), np.flatnonzero(there < 0)
        if before is not None:
            keys[kept], rows[kept] = before._keys[there[kept]], before._texts.rows[there[kept]]
        keys[new] = keys_of(items[at].text for at in new.tolist())
        return keys, rows

    def __contains__(self, item: object) -> bool:
        return item in self._places

    def scores(
        self,
        query: str,
        history: Sequence[Item],
        pool: Sequence[str],
        wanted: Callable[[str], bool] = lambda _: True,
    ) -> dict[str, Floats]:
        """How well C items fit, by each kind of score.

        Words say what is wanted now. What is most like an item seen before is often another of the same kind, and would
        outweigh the words if both counted alike.

        Args:
            query: what is wanted; may be empty.
            history: the items seen before. BM25 looks for their titles alone: one item's description is noise in the
                search for another.
            pool: ids of the items.
            wanted: which of "bm25", "minilm" and "history" to compute.

        Returns:
            (C,) by the name of the way. With an encoder there is "minilm", the similarity with what is wanted, or else
            the largest with anything seen before; and where both are there, "history", that with what was seen before.
        """
        places = np.fromiter(map(self._places.__getitem__, pool), np.int64, len(pool))
        return self._scores(query, history, places, wanted)

    def _scores(
        self, query: str, history: Sequence[Item], places: Places, wanted: Callable[[str], bool] = lambda _: True
    ) -> dict[str, Floats]:
        found = {}
        if wanted("bm25"):
            found["bm25"] = self._texts.words(" ".join([query, *(item.title for item in history)]))[places]
        if self._embed is not None:
            texts = [item.text for item in history]
            if wanted("minilm"):
                asked = [query] if query or not texts else [" ".join(texts), *texts]
                found["minilm"] = similarity(self._embed, self._texts.nearest(self._embed(asked))[places])
            if query and texts and wanted("history"):
                found["history"] = similarity(self._embed, self._texts.nearest(self._embed(texts))[places])
        return found

    def search(
        self, query: str, history: Sequence[Item], allowed: Sequence[str], top: int
    ) -> dict[str, Mapping[str, float]]:
        """The items that fit best, by reciprocal rank fusion of "bm25" and "minilm".

        Args:
            query: what is wanted.
            history: the items seen before.
            allowed: ids of the items that may be found; those that it does not hold are passed over. What is found out
                about a tuple is kept for the next search among the same.
            top: how many at most.

        Returns:
            best first, the score of each way by its name.
        """
        allowed, places = self._held(allowed)
        by_name = self._scores(query, history, places)
        fused = np.zeros(len(allowed))
        for scores in (by_name[name] for name in _FUSED if name in by_name):
            fitting = np.flatnonzero(scores > 0)
            order = fitting[np.argsort(-scores[fitting], kind="stable")]
            fused[order] += 1 / (_FUSION + 1 + np.arange(len(order)))
        return {
            allowed[place]: {name: float(scores[place]) for name, scores in by_name.items()}
            for place in _largest(fused, top)
        }

    def _held(self, allowed: Sequence[str]) -> tuple[Sequence[str], Places]:
        """Those of some items that it holds, and (N,) where."""
        known = self._allowed
        if known is not None and known[0] is allowed:
            return known[1:]
        places = np.fromiter(map(self._places.get, allowed, repeat(-1)), np.int64, len(allowed))
        held = allowed
        if (places < 0).any():  # its index is of an older catalog
            held = [allowed[at] for at in np.flatnonzero(places >= 0).tolist()]
            places = places[places >= 0]
        if isinstance(allowed, tuple):
            self._allowed = allowed, held, places
        return held, places


def _largest(scores: Floats, top: int) -> Places:
    """(at most `top`,) the places of the largest scores, the best first, and of equal ones the first."""
    places = np.arange(len(scores))
    if 0 < top < len(scores):
        places = np.flatnonzero(scores >= np.partition(scores, -top)[-top])
    best: Places = places[np.argsort(-scores[places], kind="stable")][:top]
    return best
