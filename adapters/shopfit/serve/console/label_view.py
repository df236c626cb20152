"""A row to be labelled as the page shows it: its fields, and the answers there are, each with its key."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.merchant.histories import past_items
from shopfit.merchant.labeling import Labeling
from shopfit.merchant.search import CatalogIndex
from shopfit.merchant.values import as_id, as_label
from shopfit.recipe.label_spelling import label_key
from shopfit.recipe.levels import as_written, bounds_of, levels_between
from shopfit.recipe.schema import Recipe
from shopfit.serve.console.label_queues import Catalogs
from shopfit.serve.console.routes import BadForm

DIGITS = "123456789"
LETTERS = "abcdefghijklmopqrtvwxyz"
"""Keys of answers after the ninth; n, s and u mean something else."""

_ITEMS = 9
_LONGEST = 200  # characters of a label


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer that a row may get.

    Args:
        value: as a form sends it.
        text: as people read it.
        key: of the keyboard; empty without.
        more: what else there is to say, such as an item's brand; empty for nothing.
        suggested: whether the model would answer so.
        probability: that the model gives it; None if it told none.
    """

    value: str
    text: str
    key: str = ""
    more: str = ""
    suggested: bool = False
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a row.

    Args:
        name: of it.
        texts: that it holds: one, or the titles of a list of items.
        items: whether they are items.
    """

    name: str
    texts: Sequence[str]
    items: bool = False


def fields_of(recipe: Recipe, row: Example, catalogs: Catalogs) -> list[Field]:
    """What the prompt shows of a row."""
    found = []
    for name in recipe.fields:
        value = row.fields.get(name)
        if value is None:
            continue
        if name in recipe.data.item_fields:
            items = [value] if isinstance(value, str) else list(value)
            found.append(Field(name, [title_of(catalogs.history, one) for one in items], items=True))
        else:
            found.append(Field(name, [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]))
    return found


def title_of(catalog: Catalog | None, item: str) -> str:
    """An item's title; its id if there is no such item."""
    return item if catalog is None or item not in catalog else catalog[item].title


def labels_of(recipe: Recipe, state: Labeling) -> list[str]:
    """The labels there are: the recipe's; else those of the examples, in the order in which they came up."""
    if recipe.prompt.labels:
        return list(recipe.prompt.labels)
    named = (as_label(one.answer) for one in state.examples)
    found: dict[str, str] = {}
    for label in named:
        if label is not None:
            found.setdefault(label_key(label), label)
    return list(found.values())


def bounds(recipe: Recipe, state: Labeling) -> tuple[float, float] | None:
    """The least and the largest score: the recipe's, else those of the examples; None if nobody can tell."""
    if (named := bounds_of(recipe.data.bounds, recipe.prompt.labels)) is not None:
        return named
    scores = [float(one.answer) for one in state.examples if isinstance(one.answer, int | float)]
    return (min(scores), max(scores)) if scores and min(scores) < max(scores) else None


def choices_of(
    recipe: Recipe,
    state: Labeling,
    row: Example,
    proposal: Mapping[str, Any],
    index: CatalogIndex | None,
    catalogs: Catalogs,
    find: str = "",
) -> list[Choice]:
    """The answers to choose from.

    Args:
        recipe: that the row is labelled for.
        state: as the labelling stands.
        row: to be labelled.
        proposal: what a run told of it; empty for nothing.
        index: rank: a search in the catalog.
        catalogs: that the row names.
        find: rank: what to search for, in place of what the row asks.
    """
    suggested, probability = proposal.get("suggested"), proposal.get("probability")
    match recipe.spec.kind:
        case "items":
            first = suggested[0] if isinstance(suggested, list) and suggested and not find else None
            catalog = catalogs.ranked
            found = _items(recipe, row, suggested, index, catalogs, find)
            return [
                Choice(
                    item,
                    title_of(catalog, item),
                    DIGITS[place : place + 1],
                    _more(catalog, item),
                    item == first,
                )
                for place, item in enumerate(found)
            ]
        case "number":
            return _levels(recipe, state, suggested)
    keys = [*DIGITS, *LETTERS]
    return [
        Choice(
            label,
            label,
            keys[place] if place < len(keys) else "",
            "",
            label == suggested,
            probability if label == suggested else None,
        )
        for place, label in enumerate(labels_of(recipe, state))
    ]


def answer_of(recipe: Recipe, state: Labeling, row: Example, value: str, catalogs: Catalogs) -> Any:
    """An answer as the example file has it.

    Args:
        recipe: that the row is labelled for.
        state: as the labelling stands.
        row: that is labelled.
        value: as a form sent it.
        catalogs: that the row names.

    Raises:
        BadForm: if it can be none.
    """
    match recipe.spec.kind:
        case "items":
            item = as_id(value)
            if item is None or not _may_be(item, row, catalogs):
                raise BadForm("there is no such item to choose", next_step="choose one of those that are shown")
            return [item]
        case "number":
            return _score(bounds(recipe, state), value)
    label = as_label(value)
    named = {label_key(one): one for one in labels_of(recipe, state)}
    if label is not None and label_key(label) in named:
        return named[label_key(label)]
    if label is None or len(label) > _LONGEST or recipe.prompt.labels:
        allowed = ", ".join(named.values()) or f"a text of at most {_LONGEST} characters"
        raise BadForm(f"this cannot be a label (allowed: {allowed})", next_step="choose one of them")
    return label


def _may_be(item: str, row: Example, catalogs: Catalogs) -> bool:
    if row.candidates is not None:
        return item in row.candidates
    return catalogs.ranked is None or item in catalogs.ranked


def _score(limits: tuple[float, float] | None, value: str) -> float | int:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    low, high = limits or (-math.inf, math.inf)
    if not math.isfinite(number) or not low <= number <= high:
        allowed = "a number" if limits is None else f"a number from {as_written(low)} to {as_written(high)}"
        raise BadForm(f"this cannot be a score (allowed: {allowed})", next_step="give another one")
    return int(number) if number.is_integer() else number


def _levels(recipe: Recipe, state: Labeling, suggested: Any) -> list[Choice]:
    """Levels of a score; a level that is one digit has that key."""
    limits = bounds(recipe, state)
    if limits is None:
        return []
    levels = list(recipe.prompt.labels) or list(levels_between(*limits))
    nearest = min(levels, key=lambda level: abs(float(level) - suggested)) if _is_number(suggested) else None
    letters = iter(LETTERS)
    keys = [level if level in DIGITS else next(letters, "") for level in levels]
    return [Choice(level, level, key, suggested=level == nearest) for level, key in zip(levels, keys, strict=True)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _items(
    recipe: Recipe,
    row: Example,
    suggested: Any,
    index: CatalogIndex | None,
    catalogs: Catalogs,
    find: str,
) -> list[str]:
    """Items of a row, the likeliest first: those it names, else the model's and those that a search finds."""
    first = [one for one in suggested if isinstance(one, str)] if isinstance(suggested, list) and not find else []
    if row.candidates is not None:
        named = [one for one in first if one in row.candidates]
        return list(dict.fromkeys([*named, *row.candidates]))
    if index is None or catalogs.ranked is None:
        return first
    if find:
        return list(index.search(find, (), list(catalogs.ranked), _ITEMS))
    texts = [
        str(row.fields[name]) for name in recipe.fields if name not in recipe.data.item_fields and name in row.fields
    ]
    seen = past_items(row.fields, catalogs.history)
    found = index.search(" ".join(texts), seen, list(catalogs.ranked), _ITEMS)
    known = [one for one in first if one in catalogs.ranked]
    return list(dict.fromkeys([*known, *found]))[:_ITEMS]


def _more(catalog: Catalog | None, item: str) -> str:
    if catalog is None or item not in catalog:
        return ""
    said = (catalog[item].fields.get(name) for name in ("brand", "category"))
    return " · ".join(str(one) for one in said if one)
