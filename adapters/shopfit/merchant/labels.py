"""The labels of a merchant's rows: one spelling each, and rows that contradict each other."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shopfit.errors import DataError, Problem
from shopfit.merchant.examples import Example
from shopfit.merchant.text import normalised
from shopfit.recipe.label_spelling import label_key, loose_key
from shopfit.recipe.schema import Recipe

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


def one_spelling(recipe: Recipe, *parts: Sequence[Example]) -> tuple[list[list[Example]], dict[str, dict[str, int]]]:
    """Examples whose labels are written one way each: the most frequent spelling over all parts.

    Labels that differ by case, outer or double spaces, width, canonical Unicode form or invisible signs are one label.

    Args:
        recipe: that they were read for; labels that it names stay apart.
        parts: of the examples.

    Returns:
        the parts; and of each label that had several spellings, how often each was written.

    Raises:
        DataError: if some labels may be one or several, such as `m²` and `m2`, and the recipe does not name them.
    """
    labelled = [(example, example.label) for part in parts for example in part if example.label is not None]
    labels = Counter(label for _, label in labelled)
    groups: dict[str, list[str]] = {}
    for label in sorted(labels, key=lambda label: (-labels[label], label)):
        groups.setdefault(label_key(label), []).append(label)
    _check_apart(recipe, {group[0]: sum(labels[label] for label in group) for group in groups.values()})
    best = {label: group[0] for group in groups.values() for label in group}
    written: dict[str, Counter[str]] = {group[0]: Counter() for group in groups.values()}
    for example, label in labelled:
        written[best[label]][example.written or label] += 1
    merged = {
        label: {spelling: counts[spelling] for spelling in sorted(counts, key=lambda one: (-counts[one], one))}
        for label, counts in written.items()
        if len(counts) > 1
    }
    return [[_named(example, best) for example in part] for part in parts], merged


def _check_apart(recipe: Recipe, counts: Mapping[str, int]) -> None:
    """Refuse labels of which only the merchant knows whether they are one."""
    alike: dict[str, list[str]] = {}
    for label in counts:
        if label not in recipe.prompt.labels:
            alike.setdefault(loose_key(label), []).append(label)
    problems = [
        Problem("labels", " and ".join(f"{label!r} ({_rows(counts[label])})" for label in labels))
        for labels in alike.values()
        if len(labels) > 1
    ]
    if problems:
        raise DataError(
            f"{recipe.data.file} has labels that differ in a letter or sign that may not matter: are they one label?",
            problems=problems,
            next_step="write them alike or map one to the other in data.label_aliases if they are one; "
            "else name all labels in prompt.labels of the recipe",
        )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _named(example: Example, best: Mapping[str, str]) -> Example:
    if example.label is None or best[example.label] == example.label:
        return example
    return replace(example, label=best[example.label], written=example.written or example.label)


def spellings_text(merged: Mapping[str, Mapping[str, int]]) -> str:
    """Which spellings were taken for one label, such as `good: 41 rows (written 'Good' 30, 'good' 11)`."""
    return "; ".join(
        f"{label}: {sum(counts.values())} rows (written "
        f"{', '.join(f'{spelling!r} {count}' for spelling, count in counts.items())})"
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


def labels_of(recipe: Recipe, train: Sequence[Example]) -> tuple[str, ...]:
    """choose: every label, as in `prompt.labels`, else those of the examples, sorted."""
    if not recipe.spec.single_label:
        return ()
    [train], _ = one_spelling(recipe, train)
    return tuple(recipe.prompt.labels) or tuple(sorted({example.label for example in train if example.label}))
