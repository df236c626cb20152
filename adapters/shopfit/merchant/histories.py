"""More examples from a history: each of its items came after the earlier ones.

A row with a whole history gives a row for each of its beginnings (Tan, Xu and Liu, arXiv:1606.08117).
"""

from collections.abc import Sequence
from dataclasses import replace

from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example, Fields, seen
from shopfit.recipe.schema import Recipe


def histories_are_ranked(recipe: Recipe) -> bool:
    """Whether histories hold items of the catalog that is ranked, and the prompt shows them."""
    data = recipe.data
    ranked = recipe.spec.items and data.history_catalog is None
    return ranked and "history" in data.item_fields and "history" in recipe.fields


def history_alone(recipe: Recipe, fields: Fields) -> bool:
    """Whether a history of the ranked catalog's items is a row's only query."""
    other = any(fields.get(name) for name in recipe.fields if name != "history")
    return not other and bool(seen(fields)) and histories_are_ranked(recipe)


def earlier_steps(recipe: Recipe, row: Example) -> list[Example]:
    """The rows of the history's beginnings: its first items -> the item after them.

    Args:
        recipe: only one of task rank has any.
        row: an example; one that asks for something besides its history has no earlier steps, since what was asked
            before is not known.

    Returns:
        the shortest first, each of the row's group, or of a group of their own with it.
    """
    if row.candidates is not None or not history_alone(recipe, row.fields):
        return []
    history = seen(row.fields)
    return [
        replace(
            row,
            id=f"{row.id}/{length}",
            fields={**row.fields, "history": history[:length]},
            relevant=(history[length],),
            group=row.group or row.id,
        )
        for length in range(1, len(history))
        if recipe.data.repeats or history[length] not in history[:length]
    ]


def with_earlier_steps(recipe: Recipe, rows: Sequence[Example]) -> list[Example]:
    """Rows, each with its earlier steps before it."""
    return [step for row in rows for step in (*earlier_steps(recipe, row), row)]


def past_items(fields: Fields, items: Catalog | None) -> list[Item]:
    """The items of a history that are known."""
    return [items[item] for item in seen(fields) if items is not None and item in items]
