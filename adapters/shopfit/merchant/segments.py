"""Texts that can be found, in segments that never change: BM25's postings and the vectors of some texts each.

An index is some segments and the places of its texts in them, so that a text that changes adds a small segment, and
rows that no item has any more are passed over. What BM25 counts over a whole collection, it counts when it is asked:
scores are those of an index that was made anew.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shopfit.merchant.text import words_of

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Keys = NDArray[np.uint64]
Places = NDArray[np.int64]

SMALL, MOST_SMALL = 16_384, 16
"""Texts from which on a segment is not small, and small ones that may lie beside each other until they are joined."""
_FEW = 8  # vectors, up to which reading the texts' takes longer than multiplying

_K1, _B = 1.5, 0.75  # of BM25: how fast a word that recurs counts less, and how much a text's length counts


def keys_of(texts: Iterable[str]) -> Keys:
    """(N, 2) digests of N texts."""
    digests = b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Segment:
    """R texts with V different words.

    Args:
        keys: (R, 2) uint64, digests of the texts.
        vectors: (R, D) float32, of length 1; D is 0 where texts are found by words only.
        lengths: (R,) int32, words of each text.
        terms: the words.
        starts: (V + 1,) int64, where the postings of each word start.
        rows: (P,) int32, the text of each posting.
        counts: (P,) int32, how often it has the word.
        path: of the file that it is mapped from; None for one in memory.
    """

    keys: Keys
    vectors: Vectors
    lengths: NDArray[np.int32]
    terms: Sequence[str]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]
    path: Path | None = field(default=None)

    @classmethod
    def of(cls, texts: Sequence[str], vectors: Vectors) -> "Segment":
        """The segment of R texts with their vectors."""
        places: dict[str, int] = {}
        said = [[places.setdefault(word, len(places)) for word in words_of(text)] for text in texts]
        lengths = np.array([len(words) for words in said], np.int32)
        terms = np.array([word for words in said for word in words], np.int64)
        rows = np.repeat(np.arange(len(texts)), lengths)
        pairs, counts = np.unique(terms * max(1, len(texts)) + rows, return_counts=True)
        return cls(keys_of(texts), vectors, lengths, list(places), *_postings(pairs, counts, len(places), len(texts)))

    @classmethod
    def join(cls, segments: Sequence["Segment"], live: Places | None = None) -> "Segment":
        """One segment of the texts of one or more.

        Args:
            segments: those of one width D.
            live: (L,) the rows that are wanted, counted over all segments; all of them by default.
        """
        size = sum(map(len, segments))
        live = np.arange(size) if live is None else np.unique(live)
        now = np.full(size, -1, np.int64)
        now[live] = np.arange(len(live))
        places: dict[str, int] = {}
        pairs, counts, offset = [], [], 0
        for segment in segments:
            terms = np.array([places.setdefault(word, len(places)) for word in segment.terms], np.int64)
            rows = now[segment.rows + offset]
            pair = np.repeat(terms, np.diff(segment.starts)) * max(1, len(live)) + rows
            pairs.append(pair[rows >= 0])
            counts.append(segment.counts[rows >= 0])
            offset += len(segment)
        joined = np.concatenate(pairs)
        order = joined.argsort(kind="stable")
        return cls(
            np.concatenate([segment.keys for segment in segments])[live],
            np.concatenate([segment.vectors for segment in segments])[live],
            np.concatenate([segment.lengths for segment in segments])[live],
            list(places),
            *_postings(joined[order], np.concatenate(counts)[order], len(places), len(live)),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Each word's number."""
        return {word: place for place, word in enumerate(self.terms)}

    def find(self, keys: Keys) -> Places:
        """(N,) the rows of N texts; -1 for one that is not there."""
        order, first = self._sorted
        if not len(first):
            return np.full(len(keys), -1, np.int64)
        at = order[np.searchsorted(first, keys[:, 0]).clip(max=len(first) - 1)]
        return np.where((self.keys[at] == keys).all(1), at, -1)

    @cached_property
    def _sorted(self) -> tuple[Places, NDArray[np.uint64]]:
        order = self.keys[:, 0].argsort(kind="stable")
        return order, self.keys[order, 0]


def _postings(
    pairs: Places, counts: NDArray[np.integer], words: int, texts: int
) -> tuple[Places, NDArray[np.int32], NDArray[np.int32]]:
    """Starts, rows and counts of postings that are numbered word by word."""
    terms, rows = np.divmod(pairs, max(1, texts))
    starts = np.searchsorted(terms, np.arange(words + 1)).astype(np.int64)
    return starts, rows.astype(np.int32), counts.astype(np.int32)


def cover(keys: Keys, rows: Places, segments: list[Segment], more: Iterable[Segment] = ()) -> None:
    """Find texts in segments.

    Args:
        keys: (N, 2) of the texts.
        rows: (N,) their rows, counted over the segments; those that are -1 are looked for and set.
        segments: to look in first; those of `more` that hold a text are appended.
        more: to look in then, the largest first.
    """
    first, there = 0, len(segments)
    for place, segment in enumerate([*segments, *sorted(more, key=len, reverse=True)]):
        left = np.flatnonzero(rows < 0)
        if not len(left):
            return
        at = segment.find(keys[left])
        found = at >= 0
        rows[left[found]] = first + at[found]
        if place >= there:
            if not found.any():
                continue
            segments.append(segment)
        first += len(segment)


def covering(keys: Keys, segments: Iterable[Segment]) -> tuple[list[Segment], Places]:
    """The segments that hold some of N texts, and (N,) their rows, counted over those; -1 for one that none holds."""
    rows, used = np.full(len(keys), -1, np.int64), list[Segment]()
    cover(keys, rows, used, segments)
    return used, rows


def joined(segments: Sequence[Segment], keys: Keys, rows: Places) -> tuple[list[Segment], Places]:
    """The same texts in fewer segments, where what changed often has left many small ones or rows of no text."""
    if sum(map(len, segments)) > 2 * len(rows) + SMALL:
        return covering(keys, [Segment.join(segments, rows)])
    small = [segment for segment in segments if len(segment) < SMALL]
    if len(small) <= MOST_SMALL:
        return list(segments), rows
    return covering(keys, [*(segment for segment in segments if len(segment) >= SMALL), Segment.join(small)])


class TextIndex:
    """Finds N texts by words (BM25, Lucene's variant) and by vectors.

    Args:
        segments: that hold them.
        rows: (N,) their rows, counted over all segments.
    """

    def __init__(self, segments: Sequence[Segment], rows: Places) -> None:
        self.segments, self.rows = list(segments), rows
        ends = np.cumsum([0, *map(len, segments)])
        self.size = int(ends[-1])
        self._firsts = ends[:-1].tolist()
        self._times = np.bincount(rows, minlength=self.size)  # items of one text
        lengths = np.concatenate([np.zeros(0, np.int32), *(segment.lengths for segment in segments)])
        mean = float(lengths @ self._times) / max(1, len(rows))
        self._lengths = lengths / max(mean, 1e-12)

    def words(self, query: str) -> Floats:
        """(N,) how well each text fits the words of a query; 0 for one that shares none."""
        total, texts = np.zeros(self.size), len(self.rows)
        for word, times in Counter(words_of(query)).items():
            rows, counts = self._postings(word)
            found = int(self._times[rows].sum())
            if found:
                weight = times * np.log(1 + (texts - found + 0.5) / (found + 0.5))
                total[rows] += weight * counts / (counts + _K1 * (1 - _B + _B * self._lengths[rows]))
        scores: Floats = total[self.rows]
        return scores

    def nearest(self, vectors: Vectors) -> Floats:
        """(N,) each text's largest cosine with any of one or more vectors (Q, D)."""
        # numpy's product would use threads of its own, which fight those of torch for the cores: a search in four took
        # three times as long. A few vectors wait for memory, not for arithmetic
        few = len(vectors) <= _FEW
        parts = [
            (np.vecdot(segment.vectors[:, None], vectors) if few else segment.vectors @ vectors.T).max(1)
            for segment in self.segments
        ]
        return np.concatenate([np.zeros(0, np.float32), *parts])[self.rows].astype(np.float64)

    def _postings(self, word: str) -> tuple[Places, NDArray[np.int64]]:
        rows, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for first, segment in zip(self._firsts, self.segments, strict=True):
            if (place := segment.places.get(word)) is not None:
                part = slice(int(segment.starts[place]), int(segment.starts[place + 1]))
                rows.append(segment.rows[part].astype(np.int64) + first)
                counts.append(segment.counts[part].astype(np.int64))
        return np.concatenate(rows), np.concatenate(counts)
