"""Examples to train on: what each is held against, and what that costs."""

import random

from tests.conftest import tiny_tokenizer
from tests.merchant.shop import recipe

from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.tune.training_dataset import TrainingDataset


class Measured(TrainingDataset):
    """A dataset that counts how often one is measured."""

    measured = 0

    def length(self, index: int) -> int:
        self.measured += 1
        return super().length(index)


class Counted(Catalog):
    """A catalog that counts how often it is gone through."""

    passes = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        type(self).passes += 1
        return super().__iter__()


def dataset(size: int, examples: int, catalog: type[Catalog] = Catalog) -> Measured:
    drawn = random.Random(0)
    items = catalog(Catalog.of_titles(f"item {number}" for number in range(size)))

    def some(count: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f"item {drawn.randrange(size)}" for _ in range(count)))

    rows = [
        Example(str(row), {"query": "q", "history": list(some(row % 9))}, relevant=some(3)) for row in range(examples)
    ]
    task = recipe("rank")
    return Measured(rows, Prompter(task, tiny_tokenizer(), items), (), task.tune)


def test_negatives_are_the_draw_of_all_items_that_are_left() -> None:
    found = dataset(40, 60)
    for found.epoch in (1, 2):
        for index, example in enumerate(found.examples):
            known = {*example.relevant, *example.fields["history"]}
            pool = [f"item {number}" for number in range(40) if f"item {number}" not in known]
            draw = random.Random(f"{found.tune.seed}/{found.epoch}/{index}")
            negatives = found._negatives(index, example.fields)
            assert negatives == draw.sample(pool, found.tune.negatives)


def test_a_large_catalog_is_gone_through_once_and_not_for_each_example() -> None:
    found = dataset(5_000, 50, Counted)
    before = Counted.passes
    for index in range(50):
        found.length(index)
    assert Counted.passes == before


def test_the_plan_counts_tokens_of_so_many_rows_and_guesses_the_rest() -> None:
    from shopfit.tune.cost import _lengths

    few = dataset(40, 100)
    exact = [few.length(index) for index in range(100)]
    assert _lengths(few, [9] * 100, 1) == exact
    many = dataset(40, 2_000)
    guessed = _lengths(many, [len(many.prompter.text(row.fields)) for row in many.examples], 1)
    assert many.measured < 700
    exact = [many.length(index) for index in range(2_000)]
    assert abs(sum(guessed) / sum(exact) - 1) < 0.05
    assert max(guessed) <= max(exact)
