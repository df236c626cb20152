"""Drawing examples: by a seed, by label, and by group, so that a group is never split.

The order of a draw comes from a hash of the seed and the example's own id or group. So it does not depend on the
order of a file, and rows added later do not shuffle those that were there.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

from shopfit.merchant.examples import Example

Unit = list[Example]  # the rows of one group, or one row without a group


def draw(examples: Sequence[Example], count: int, seed: str) -> list[Example]:
    """`count` of the examples (all if there are fewer), in their own order."""
    drawn = {example.id for example in in_order(examples, seed)[:count]}
    return [example for example in examples if example.id in drawn]


def in_order(examples: Sequence[Example], seed: str) -> list[Example]:
    """The examples in the order in which `draw` takes them."""
    return sorted(examples, key=lambda example: _rank(seed, example.id))


def draw_balanced(examples: Sequence[Example], count: int, seed: str) -> list[Example]:
    """`count` of the examples, as many of one label as of another: a label gives more only when another has no more."""
    by_label: dict[str | None, list[Example]] = {}
    for example in in_order(examples, seed):
        by_label.setdefault(example.label, []).append(example)
    labels = sorted(by_label, key=lambda label: _rank(seed, str(label)))
    rounds = chain.from_iterable(zip_longest(*(by_label[label] for label in labels)))
    drawn = {example.id for example in [example for example in rounds if example is not None][:count]}
    return [example for example in examples if example.id in drawn]


def hold_out(examples: Sequence[Example], count: int, seed: str) -> tuple[list[Example], list[Example]]:
    """Set about `count` examples apart, whole groups at a time and with the labels' shares.

    Exactly `count` where no row has a group and no label is down to its last row. The rest keeps at least one
    example of every label, and more than none in any case.

    Args:
        examples: with unique ids.
        count: how many, below the number of examples.
        seed: names the draw.

    Returns:
        The rest and the held-out examples, each in their own order.
    """
    ordered = sorted(units(examples), key=lambda unit: _rank(seed, unit[0].group or unit[0].id))
    left = Counter(example.label for example in examples)
    wanted = _shares(left, count, seed)
    out: set[str] = set()
    # first by the labels' shares, then by the number alone for what groups made impossible
    for stratified in (True, False):
        for unit in ordered:
            labels = Counter(example.label for example in unit)
            missing = count - len(out)
            better = _closer(wanted, labels) if stratified else abs(missing - len(unit)) < abs(missing)
            if unit[0].id in out or not better or any(left[label] <= labels[label] for label in labels):
                continue
            out |= {example.id for example in unit}
            left -= labels
            wanted.subtract(labels)
    return [each for each in examples if each.id not in out], [each for each in examples if each.id in out]


def _closer(wanted: Counter[str | None], unit: Counter[str | None]) -> bool:
    """Whether taking the unit brings the labels' counts closer to those wanted."""
    return sum((wanted[label] - unit[label]) ** 2 - wanted[label] ** 2 for label in unit) < 0


def _shares(labels: Counter[str | None], count: int, seed: str) -> Counter[str | None]:
    """`count` shared out over the labels by their sizes: whole parts first, then the largest remainders (Hamilton)."""
    total = labels.total()
    exact = {label: size * count / total for label, size in labels.items()}
    shares = Counter({label: min(int(part), labels[label] - 1) for label, part in exact.items()})
    order = sorted(exact, key=lambda label: (int(exact[label]) - exact[label], _rank(seed, str(label))))
    while (missing := count - shares.total()) > 0:
        room = [label for label in order if shares[label] < labels[label] - 1]
        if not room:
            break
        shares.update(room[:missing])
    return shares


def units(examples: Iterable[Example]) -> list[Unit]:
    """The units of a split: the rows of each group, and every row without a group."""
    groups: dict[str, Unit] = {}
    alone: list[Unit] = []
    for example in examples:
        if example.group is None:
            alone.append([example])
        else:
            groups.setdefault(example.group, []).append(example)
    return [*groups.values(), *alone]


def _rank(seed: str, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()
