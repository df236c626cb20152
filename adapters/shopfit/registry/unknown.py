"""What to tell when a reference names nothing: what there is instead, of the same merchant and of nobody else."""

import difflib

from sqlalchemy import Connection

from shopfit.errors import UnknownReference
from shopfit.registry import rows
from shopfit.registry.reference import Reference
from shopfit.registry.version import Version

_SHOWN = 20


def unknown(connection: Connection, reference: Reference) -> UnknownReference:
    """Explain that `reference` names nothing."""
    merchant, recipe = reference.merchant, reference.recipe
    versions = rows.find_all(connection, merchant)
    if siblings := [version for version in versions if version.recipe == recipe]:
        removed = reference.number is not None and reference.number <= rows.last_number(connection, merchant, recipe)
        what = "was removed" if removed else "does not exist"
        there_is = _names(siblings)
    elif near := difflib.get_close_matches(recipe, sorted({version.recipe for version in versions}), n=3):
        what, there_is = "does not exist", "did you mean " + " or ".join(f"{merchant}/{name}" for name in near) + "?"
    elif versions:
        recipes = sorted({f"{merchant}/{version.recipe}" for version in versions})
        what, there_is = "does not exist", "there is " + _some(recipes)
    else:
        what, there_is = "does not exist", f"the merchant {merchant!r} has no versions"
    next_step = "run `shopfit registry ls` to see every reference"
    waiting = [version for version in siblings if "candidate" in version.aliases]
    if waiting and reference.number is None and reference.alias == "production":
        next_step = (
            f"ask {merchant}/{recipe}@candidate, whose gain is not proven; promote it with "
            f"`shopfit registry promote {waiting[0].name}`; `shopfit registry ls` shows every reference"
        )
    return UnknownReference(f"{reference} {what}: {there_is}", next_step=next_step)


def _names(versions: list[Version]) -> str:
    """The versions, newest first, and the aliases."""
    numbers = [f"@{v.number}" + (" (refused)" if v.status == "refused" else "") for v in reversed(versions)]
    named = sorted((alias, v.number) for v in versions for alias in v.aliases)
    pointers = "".join(f", @{alias} ({number})" for alias, number in named)
    return f"there is {_some(numbers)}{pointers}"


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
