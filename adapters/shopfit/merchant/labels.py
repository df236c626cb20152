"""The labels of a merchant's rows: one spelling each, and rows that contradict each other."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shopfit.merchant.examples import Example
from shopfit.merchant.leaks import normalised
from shopfit.recipe.labels import label_key

logger = logging.getLogger(__name__)

_SHOWN = 20  # places of contradictions that are kept


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Rows of one text with different answers. None is taken out: which of them is right, only the merchant knows.

    Args:
        train: rows of the training file whose text has another answer in it, too.
        test: the same of the test set.
        between: test rows whose text has another answer in the training file.
        places: file and line of some of them, the rows of one text together.
    """

    train: int = 0
    test: int = 0
    between: int = 0
    places: tuple[tuple[str, ...], ...] = ()

    @property
    def total(self) -> int:
        """Rows of any kind."""
        return self.train + self.test + self.between

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each kind, by its name."""
        return {"train": self.train, "test": self.test, "between": self.between}

    def __str__(self) -> str:
        parts = [
            f"{count} {where}"
            for count, where in (
                (self.train, "in the training rows"),
                (self.test, "in the test set"),
                (self.between, "in the test set against the training rows"),
            )
            if count
        ]
        like = f", such as {' and '.join(self.places[0])}" if self.places else ""
        return f"the same text with different answers: {', '.join(parts)}{like}"


def one_spelling(*parts: Sequence[Example]) -> tuple[list[list[Example]], dict[str, dict[str, int]]]:
    """Examples whose labels are written one way each: the most frequent spelling over all parts.

    Labels that differ by case, outer or double spaces, Unicode form or invisible signs are one label.

    Returns:
        the parts; and of each label that had several spellings, how often each was written.
    """
    written = Counter(example.label for part in parts for example in part if example.label is not None)
    spellings: dict[str, dict[str, int]] = {}
    for label in sorted(written, key=lambda label: (-written[label], label)):
        spellings.setdefault(label_key(label), {})[label] = written[label]
    best = {key: next(iter(counts)) for key, counts in spellings.items()}
    chosen = {label: best[key] for key, counts in spellings.items() for label in counts}
    merged = {best[key]: counts for key, counts in spellings.items() if len(counts) > 1}
    if not merged:
        return [list(part) for part in parts], {}
    return [[_named(example, chosen) for example in part] for part in parts], merged


def _named(example: Example, chosen: Mapping[str, str]) -> Example:
    if example.label is None or chosen[example.label] == example.label:
        return example
    return replace(example, label=chosen[example.label])


def spellings_text(merged: Mapping[str, Mapping[str, int]]) -> str:
    """Which spellings were taken for one label."""
    return "; ".join(
        f"{', '.join(f'{spelling!r} ({count})' for spelling, count in counts.items())} are read as {label!r}"
        for label, counts in merged.items()
    )


def contradictions(train: Sequence[Example], test: Sequence[Example], text: Callable[[Example], str]) -> Contradictions:
    """Rows of the same text, without case and spacing, with different labels or outputs.

    Args:
        train: rows of the training file.
        test: the test set.
        text: what the prompt shows of an example.
    """
    trained, tested = _by_text(train, text), _by_text(test, text)
    groups = [rows for part in (trained, tested) for rows in part.values() if len(_answers(rows)) > 1]
    within = [sum(len(rows) for rows in part.values() if len(_answers(rows)) > 1) for part in (trained, tested)]
    between = 0
    for words, rows in tested.items():
        if other := [row for row in rows if _answers(trained.get(words, ())) - {_answer(row)}]:
            between += len(other)
            groups.append([trained[words][0], other[0]])
    places = tuple(tuple(row.where for row in rows[:_SHOWN]) for rows in groups[:_SHOWN])
    return Contradictions(within[0], within[1], between, places)


def _by_text(examples: Iterable[Example], text: Callable[[Example], str]) -> dict[str, list[Example]]:
    rows: dict[str, list[Example]] = {}
    for example in examples:
        if _answer(example) is not None:
            rows.setdefault(normalised(text(example)), []).append(example)
    return rows


def _answers(rows: Iterable[Example]) -> set[str]:
    return {answer for row in rows if (answer := _answer(row)) is not None}


def _answer(example: Example) -> str | None:
    """What is right, where only one thing can be: several items may well be right for one search."""
    if example.label is not None:
        return example.label
    return None if example.output is None else repr(example.output)
