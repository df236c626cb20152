"""Rows without their answer: which file holds them, and which of them repeat no labelled row."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from shopfit.errors import DataError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, load_examples
from shopfit.merchant.leaks import remove_leaks
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import beside
from shopfit.recipe.schema import Recipe


def unlabeled_file_of(merchant: Merchant, recipe: Recipe) -> str | None:
    """The file of the unlabeled rows: `data.unlabeled`, else `<file>.unlabeled.<ext>` if it is there."""
    return recipe.data.unlabeled or beside(merchant, recipe, "unlabeled")


def load_unlabeled(
    merchant: Merchant, recipe: Recipe, *, catalog: Catalog | None, history: Catalog | None
) -> list[Example]:
    """The rows of the unlabeled file, read as examples are.

    Args:
        merchant: whose rows.
        recipe: its `data` section says where they are.
        catalog: rank: the items; None for plain titles.
        history: the items in `data.item_fields`; by default `catalog`.

    Raises:
        DataError: if there is no such file, or with every bad row, those that have an answer included.
    """
    file = unlabeled_file_of(merchant, recipe)
    if file is None:
        path = PurePosixPath(recipe.data.file)
        wanted = path.with_name(f"{path.stem}.unlabeled{path.suffix}")
        raise DataError(
            f"{merchant.folder} has no unlabeled file {wanted} for recipe {recipe.name}",
            next_step=f"put rows without their answer there, or name another file: data.unlabeled ({recipe.name})",
        )
    return load_examples(merchant, recipe, file, catalog=catalog, history=history, labelled=False)


def without_copies(
    rows: Sequence[Example],
    test: Sequence[Example],
    labelled: Sequence[Example],
    text: Callable[[Example], str],
    threshold: float,
) -> list[Example]:
    """The unlabeled rows that repeat no labelled one, exactly or nearly, and belong to no group of the test set.

    Args:
        rows: unlabeled.
        test: the test set.
        labelled: all other examples; a row may well come from a shopper who gave one of them.
        text: what the prompt shows of an example.
        threshold: similarity from which a text is a near-copy, 0.5 to 1.
    """
    apart, _ = remove_leaks(rows, test, text, threshold)
    kept, _ = remove_leaks(apart, [replace(example, group=None) for example in labelled], text, threshold)
    return kept
