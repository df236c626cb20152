"""The error for a reference that names nothing: it lists what the same merchant has, and nothing of others."""

from sqlalchemy import Connection

from shopfit.errors import UnknownReference, UnknownVersion
from shopfit.recipe.suggestions import nearest
from shopfit.registry import queries
from shopfit.registry.reference import CANDIDATE, PRODUCTION, Reference
from shopfit.registry.version import Version

_SHOWN = 20


def unknown(connection: Connection, reference: Reference) -> UnknownReference:
    """The error for a `reference` that names nothing."""
    merchant, recipe = reference.merchant, reference.recipe
    versions = queries.find_all(connection, merchant)
    if siblings := [version for version in versions if version.recipe == recipe]:
        removed = reference.number is not None and reference.number <= queries.last_number(connection, merchant, recipe)
        what = "was removed" if removed else "does not exist"
        there_is = _near_alias(reference, siblings) + _names(siblings)
    elif near := nearest(recipe, sorted({version.recipe for version in versions})):
        what, there_is = "does not exist", f"did you mean {merchant}/{near}?"
    elif versions:
        recipes = sorted({f"{merchant}/{version.recipe}" for version in versions})
        what, there_is = "does not exist", "there is " + _some(recipes)
    else:
        what, there_is = "does not exist", f"the merchant {merchant!r} has no versions"
    message, next_step = f"{reference} {what}: {there_is}", "run `shopfit registry ls` to see every reference"
    if not siblings:
        return UnknownReference(message, next_step=next_step)
    if reference.alias == PRODUCTION:
        next_step = f"{_to_promote(siblings)}; `shopfit registry ls` shows every reference"
    return UnknownVersion(message, versions=[_name(version) for version in siblings[-_SHOWN:]], next_step=next_step)


def _near_alias(reference: Reference, siblings: list[Version]) -> str:
    aliases = sorted({alias for version in siblings for alias in version.aliases})
    near = None if reference.alias is None else nearest(reference.alias, aliases)
    return "" if near is None else f"did you mean @{near}? "


def _to_promote(siblings: list[Version]) -> str:
    """The next step if no version is in production."""
    for version in siblings:
        if CANDIDATE in version.aliases:
            return (
                f"ask {version.merchant}/{version.recipe}@{CANDIDATE}, whose gain is not proven; promote it with "
                f"`shopfit registry promote {version.name}`"
            )
    if ready := [version for version in siblings if version.status == "ready"]:
        return f"ask {ready[-1].name}, or promote it with `shopfit registry promote {ready[-1].name}`"
    newest = siblings[-1].name
    return (
        f"the gate refused every version: train again with more examples, ask {newest} by its number, "
        f"or promote it all the same with `shopfit registry promote {newest} --force`"
    )


def _name(version: Version) -> str:
    return f"@{version.number}" + (" (refused)" if version.status == "refused" else "")


def _names(versions: list[Version]) -> str:
    """The versions, newest first, and the aliases."""
    numbers = [_name(version) for version in reversed(versions)]
    named = sorted((alias, v.number) for v in versions for alias in v.aliases)
    pointers = "".join(f", @{alias} ({number})" for alias, number in named)
    return f"there is {_some(numbers)}{pointers}"


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
