"""Finding items of a catalog by words (BM25) and by meaning (the cosine of an encoder's vectors)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shopfit.merchant.catalog import Catalog, Item

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""N texts -> (N, D) vectors of length 1."""

_FUSED = ("bm25", "minilm")
_CHUNK = 32  # texts that an encoder is asked for at a time
_FUSION = 60  # of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)


class WordIndex:
    """BM25, Lucene's variant.

    Args:
        texts: N documents.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._size = len(texts)
        documents = _words(texts)
        self._known = {word for document in documents for word in document}
        self._index = bm25s.BM25()
        if self._known:
            self._index.index(documents, show_progress=False)

    def scores(self, query: str) -> Floats:
        """(N,) how well each document fits; 0 for one that shares no word."""
        shared = [word for word in _words([query])[0] if word in self._known] if query else []
        if not shared:
            return np.zeros(self._size)
        return np.asarray(self._index.get_scores(shared), np.float64)


def _words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    # no stop words: they are English, and rare words weigh more than common ones anyway
    return list(bm25s.tokenize(list(texts), stopwords=None, return_ids=False, show_progress=False)) if texts else []


def direction(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(D,) the mean of (N, D) vectors, of length 1."""
    mean: NDArray[np.float32] = vectors.mean(0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


class VectorIndex:
    """Cosine of vectors.

    Args:
        texts: N documents.
        embed: turns texts into vectors; asked for a few texts at a time, so that other threads can use it in between.
        known: vectors of texts that need not be made again.
    """

    def __init__(
        self, texts: Sequence[str], embed: Embed, known: Mapping[str, NDArray[np.float32]] | None = None
    ) -> None:
        self._embed = embed
        vectors = dict(known or {})
        new = sorted({text for text in texts if text not in vectors}, key=len)
        for start in range(0, len(new), _CHUNK):
            part = new[start : start + _CHUNK]
            vectors |= zip(part, embed(part), strict=True)
        self.vectors = {text: vectors[text] for text in texts}
        self._matrix = np.stack(list(map(self.vectors.__getitem__, texts))) if texts else embed(texts)  # (N, D)

    def scores(self, words: str, history: Sequence[str] = ()) -> Floats:
        """(N,) a document's cosine with the words; where there are none, its largest with anything seen before.

        Words say what is wanted now. What is most like an item seen before is often another of the same kind, and would
        outweigh the words if both counted alike.
        """
        return self.largest([words] if words or not history else [" ".join(history), *history])

    def largest(self, texts: Sequence[str]) -> Floats:
        """(N,) a document's largest cosine with any of one or more texts."""
        return np.asarray((self._matrix @ self._embed(texts).T).max(1), np.float64)


def titles_index(titles: Sequence[str], embed: Embed | None) -> "CatalogIndex":
    """An index of plain titles, each its own id: of what a merchant without a catalog ranks."""
    return CatalogIndex(Catalog.of_titles(iter(titles)), embed)


class CatalogIndex:
    """An index of one catalog's items, by words and by vectors.

    Args:
        catalog: its items.
        embed: turns texts into vectors; None to find by words only.
        before: an earlier index with the same `embed`: vectors of its texts are not made again.
    """

    def __init__(self, catalog: Catalog, embed: Embed | None = None, *, before: "CatalogIndex | None" = None) -> None:
        self._texts = [item.text for item in catalog.values()]
        self._places = {item: place for place, item in enumerate(catalog)}
        self._words: WordIndex
        self._vectors: VectorIndex | None
        if before is not None and before._texts == self._texts:  # only prices or stock have changed
            self._words, self._vectors = before._words, before._vectors
            return
        known = None if before is None or before._vectors is None else before._vectors.vectors
        self._words = WordIndex(self._texts)
        self._vectors = None if embed is None else VectorIndex(self._texts, embed, known)

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

        Args:
            query: what is wanted; may be empty.
            history: the items seen before. BM25 looks for their titles alone: one item's description is noise in the
                search for another.
            pool: ids of the items.
            wanted: which of "bm25", "minilm" and "history" to compute.

        Returns:
            (C,) by the name of the way. With an encoder there is "minilm", the cosine with what is wanted, or else with
            what was seen before; and where both are there, "history", that with what was seen before.
        """
        places = [self._places[item] for item in pool]
        found = {}
        if wanted("bm25"):
            found["bm25"] = self._words.scores(" ".join([query, *(item.title for item in history)]))[places]
        if self._vectors is not None:
            texts = [item.text for item in history]
            if wanted("minilm"):
                found["minilm"] = self._vectors.scores(query, texts)[places]
            if query and texts and wanted("history"):
                found["history"] = self._vectors.largest(texts)[places]
        return found

    def search(
        self, query: str, history: Sequence[Item], allowed: Sequence[str], top: int
    ) -> dict[str, Mapping[str, float]]:
        """The items that fit best, by reciprocal rank fusion of "bm25" and "minilm".

        Args:
            query: what is wanted.
            history: the items seen before.
            allowed: ids of the items that may be found.
            top: how many at most.

        Returns:
            best first, the score of each way by its name.
        """
        by_name = self.scores(query, history, allowed)
        fused = np.zeros(len(allowed))
        for scores in (by_name[name] for name in _FUSED if name in by_name):
            ranks = np.empty(len(allowed))
            ranks[np.argsort(-scores, kind="stable")] = np.arange(len(allowed))
            fused += np.where(scores > 0, 1 / (_FUSION + 1 + ranks), 0)
        best = np.argsort(-fused, kind="stable")[:top]
        return {allowed[place]: {name: float(scores[place]) for name, scores in by_name.items()} for place in best}
