"""Changes to single items of a catalog: checked all together, and made in a new catalog. No database code."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shopfit.errors import DataError, Problem
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.catalog_reading import given_catalog
from shopfit.merchant.limits import LIMITS
from shopfit.merchant.values import as_id, is_missing
from shopfit.recipe.suggestions import shown

Changes = Mapping[str, Mapping[str, Any] | None]

_PLACE = re.compile(r"changes:([0-9]+)")
_ALLOWED = "fields and their values by the item's id, or null to remove the item"


def checked(changes: object) -> dict[str, dict[str, Any] | None]:
    """Changes by the ids of their items.

    Raises:
        DataError: with everything that is no change.
    """
    if not isinstance(changes, Mapping) or not changes:
        raise _bad([Problem("changes", f"{shown(changes)} changes nothing", _ALLOWED)])
    found: dict[str, dict[str, Any] | None] = {}
    problems = []
    for key, change in changes.items():
        where, item = f"item {shown(key)}", as_id(key)
        if item is None:
            problems.append(Problem(where, "has no id", "text that is not blank, at most 2,000 characters"))
        elif item in found:
            problems.append(Problem(where, "is named twice", "one change an item"))
        elif change is not None and not isinstance(change, Mapping):
            problems.append(Problem(where, f"{shown(change)} is no change", _ALLOWED))
        elif change is not None and "id" in change and as_id(change["id"]) != item:
            problems.append(Problem(f"{where} id", f"{shown(change['id'])} is another item's", "no id, or the item's"))
        else:
            found[item] = None if change is None else dict(change)
        if len(problems) >= LIMITS.problems:
            break
    if problems:
        raise _bad(problems)
    return found


def patched(catalog: Catalog, changes: Mapping[str, dict[str, Any] | None]) -> Catalog:
    """A catalog with changes made; removing what is not there changes nothing.

    Raises:
        DataError: with every bad change, or if it would have no item left or too many.
    """
    given = {item: change for item, change in changes.items() if change is not None}
    new = [
        Problem(f"item {shown(item)} title", "is missing", "the title of an item that is new")
        for item, change in given.items()
        if item not in catalog and is_missing(change.get("title"))
    ]
    if new:
        raise _bad(new)
    items = {item.id: item for item in catalog.values()}
    for item in _made(catalog, given):
        items[item.id] = item
    for key in changes.keys() - given.keys():
        items.pop(key, None)
    if not items:
        raise _bad([Problem("changes", "no item would be left", "one item or more; or drop the catalog")])
    if len(items) > LIMITS.rows:
        raise _bad([Problem("changes", f"there would be {len(items)} items", f"at most {LIMITS.rows}")])
    columns = {name for item in items.values() for name in item.fields}
    if len(columns) > LIMITS.columns:
        raise _bad([Problem("changes", f"items would have {len(columns)} names", f"at most {LIMITS.columns}")])
    return Catalog(items)


def _made(catalog: Catalog, changes: Mapping[str, dict[str, Any]]) -> list[Item]:
    """The changed items. What is not changed stays to the letter: a text is not read as HTML twice."""
    ids = list(changes)
    before = {key: dict(catalog[key].fields) if key in catalog else {} for key in ids}
    rows = [{**before[key], "id": key, **_without_id(change)} for key, change in changes.items()]
    if not rows:
        return []
    try:
        after = given_catalog(rows, "changes")
    except DataError as error:
        raise _bad([_placed(problem, ids) for problem in error.problems]) from None
    made = []
    for key, change in changes.items():
        kept = {name: value for name, value in before[key].items() if name not in change}
        fields = {**after[key].fields, **kept, "id": key}
        made.append(Item(key, fields["title"], fields))
    return made


def _without_id(change: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in change.items() if name != "id"}


def _placed(problem: Problem, ids: list[str]) -> Problem:
    """A problem of a row, as one of the item that the row is of."""
    return replace(problem, where=_PLACE.sub(lambda found: f"item {shown(ids[int(found[1]) - 1])}", problem.where, 1))


def _bad(problems: list[Problem]) -> DataError:
    return DataError(
        "the changes to the catalog cannot be made", problems=problems, next_step="correct what is named above"
    )
