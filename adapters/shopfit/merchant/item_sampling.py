"""Drawing some of a catalog's items, at a cost that does not grow with the catalog."""

from collections.abc import Collection, Mapping, Sequence
from random import Random


def draw_others(
    draw: Random, items: Sequence[str], places: Mapping[str, int], left_out: Collection[str], count: int
) -> list[str]:
    """Items besides some: the same draw as from a list of those that are left.

    Args:
        draw: the random generator.
        items: all of them, in the catalog's order.
        places: of each in `items`.
        left_out: ids that may not be drawn; they need not be among the items.
        count: how many to draw; where fewer are left, all of them, in any order.
    """
    gaps = sorted(places[item] for item in left_out if item in places)
    left = len(items) - len(gaps)
    return [items[_beyond(gaps, place)] for place in draw.sample(range(left), min(count, left))]


def _beyond(gaps: Sequence[int], place: int) -> int:
    """Where the element stands that is number `place` when those at `gaps`, in order, are left out."""
    for gap in gaps:
        if gap > place:
            break
        place += 1
    return place
