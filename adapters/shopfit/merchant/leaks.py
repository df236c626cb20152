"""Training examples that leak the test set: copies, near-copies, and rows of the same group."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from shopfit.merchant.examples import Example
from shopfit.merchant.text import normalised, weight

_SHORT = 20  # letters, as `weight` counts; below, one other word makes texts similar that mean something else
_COMPARED = 2000  # characters of a text, from its beginning: what comparing two texts takes grows with their product
_CHUNK = 1024  # training texts compared at a time: 4 MB for 1,000 test texts


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was removed from the training examples.

    Args:
        duplicates: rows with the very text of a test row, whatever their answer.
        near_duplicates: rows with nearly the text of one.
        shared_groups: rows whose group is in the test set.
        removed: training id, test id and similarity (1 for duplicates) of the first two kinds.
    """

    duplicates: int = 0
    near_duplicates: int = 0
    shared_groups: int = 0
    removed: tuple[tuple[str, str, float], ...] = ()

    @property
    def total(self) -> int:
        """Rows removed."""
        return self.duplicates + self.near_duplicates + self.shared_groups


def remove_leaks(
    train: Sequence[Example], test: Sequence[Example], text: Callable[[Example], str], threshold: float
) -> tuple[list[Example], Leaks]:
    """The training examples that do not leak the test set.

    Texts are compared in one form of each character (`normalised`), without case and spacing, by the indel similarity
    (`rapidfuzz.fuzz.ratio`); those shorter than 20 letters (7 Chinese characters) only count when they are equal. Of
    longer texts than 2,000 characters the first 2,000 are compared, and their lengths; copies are equal as a whole.

    Args:
        train: training examples.
        test: test examples.
        text: what the prompt shows of an example.
        threshold: similarity from which a text is a near-copy, 0.5 to 1.
    """
    groups = {example.group for example in test if example.group is not None}
    apart = [example for example in train if example.group not in groups]
    known: dict[str, str] = {}
    for example in test:
        known.setdefault(normalised(text(example)), example.id)
    texts = [normalised(text(example)) for example in apart]
    copies = {index: (known[mine], 1.0) for index, mine in enumerate(texts) if mine and mine in known}
    others = [index for index in range(len(apart)) if index not in copies]
    near = _nearest(texts, others, known, threshold)
    removed = copies | near
    kept = [example for index, example in enumerate(apart) if index not in removed]
    pairs = tuple((apart[index].id, *removed[index]) for index in sorted(removed))
    return kept, Leaks(len(copies), len(near), len(train) - len(apart), pairs)


def _nearest(
    texts: Sequence[str], indices: Sequence[int], known: dict[str, str], threshold: float
) -> dict[int, tuple[str, float]]:
    """The nearest test text of each training text that has one at or above `threshold`: its id and the similarity."""
    if threshold == 1:  # no similarity is higher than 1
        return {}
    tests = sorted((mine for mine in known if weight(mine) >= _SHORT), key=len)
    lengths = np.array([len(mine) for mine in tests])
    mine = sorted((index for index in indices if weight(texts[index]) >= _SHORT), key=lambda index: len(texts[index]))
    # 2 min / (a + b) bounds the similarity of texts of lengths a and b, so only near lengths are compared
    reach = threshold / (2 - threshold)
    found: dict[int, tuple[str, float]] = {}
    for start in range(0, len(mine), _CHUNK):
        rows = mine[start : start + _CHUNK]
        first = int(np.searchsorted(lengths, np.floor(len(texts[rows[0]]) * reach)))
        last = int(np.searchsorted(lengths, np.ceil(len(texts[rows[-1]]) / reach), side="right"))
        if first == last:
            continue
        scores = process.cdist(
            [texts[index][:_COMPARED] for index in rows],
            [test[:_COMPARED] for test in tests[first:last]],
            scorer=fuzz.ratio,
            score_cutoff=round(100 * threshold, 6),
            dtype=np.float32,
            workers=-1,
        )  # (rows, tests), 0 below the threshold
        if len(texts[rows[-1]]) > _COMPARED:
            scores[_too_uneven(np.array([len(texts[index]) for index in rows]), lengths[first:last], threshold)] = 0
        best = scores.argmax(axis=1)
        for row, index in enumerate(rows):
            if (score := float(scores[row, best[row]])) > 0:
                found[index] = (known[tests[first + best[row]]], round(score / 100, 4))
    return found


def _too_uneven(mine: NDArray[np.int64], tests: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    """Which pairs of these lengths are no near-copies, whatever their beginnings: (training texts, test texts)."""
    shorter = np.minimum(mine[:, None], tests[None, :])
    return (shorter > _COMPARED) & (2 * shorter < threshold * (mine[:, None] + tests[None, :]))
