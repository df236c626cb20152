"""Drawing items: what a list of those left would give, and never one that is left out."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shopfit.merchant.item_sampling import draw_others

ITEMS = [f"item-{number}" for number in range(60)]


@given(
    st.integers(0, 60), st.sets(st.sampled_from([*ITEMS, "elsewhere"]), max_size=40), st.integers(0, 70), st.integers()
)
def test_draws_as_from_a_list_of_those_left(size: int, left_out: set[str], count: int, seed: int) -> None:
    items = ITEMS[:size]
    left = [item for item in items if item not in left_out]
    drawn = draw_others(Random(seed), items, {item: at for at, item in enumerate(items)}, left_out, count)
    assert drawn == Random(seed).sample(left, min(count, len(left)))
