"""What can be said of examples by counting: how popular items are, how frequent labels, how much a shopper likes."""

from collections import Counter
from collections.abc import Sequence

from shopfit.merchant.examples import Example, Fields, seen


def popularity(examples: Sequence[Example]) -> dict[str, int]:
    """How many examples each item was right for, or stood in the history of."""
    return dict(Counter(item for row in examples for item in {*row.relevant, *seen(row.fields)}))


def item_likes(examples: Sequence[Example]) -> dict[str, tuple[int, int]]:
    """How many examples' shoppers liked each item, and how many disliked it."""
    liked = Counter(item for row in examples for item in _items(row.fields, "liked"))
    disliked = Counter(item for row in examples for item in _items(row.fields, "disliked"))
    return {item: (liked[item], disliked[item]) for item in {**liked, **disliked}}


def label_shares(examples: Sequence[Example], labels: Sequence[str]) -> list[float]:
    """The labels' frequencies with one added to each (Laplace); they sum to 1."""
    counts = Counter(example.label for example in examples)
    total = sum(counts[label] + 1 for label in labels)
    return [(counts[label] + 1) / total for label in labels]


def likes(fields: Fields) -> float | None:
    """Share of a shopper's liked items, one added to each side; None if a row does not tell likes and dislikes."""
    if "liked" not in fields and "disliked" not in fields:
        return None
    liked, disliked = len(_items(fields, "liked")), len(_items(fields, "disliked"))
    return (liked + 1) / (liked + disliked + 2)


def _items(fields: Fields, name: str) -> Sequence[str]:
    items = fields.get(name) or ()
    return (items,) if isinstance(items, str) else items


def positive_place(labels: Sequence[str]) -> int:
    """Which of the labels says that something is liked: `yes`, else the last one."""
    return labels.index("yes") if "yes" in labels else len(labels) - 1
