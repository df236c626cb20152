"""Resolves references, and moves aliases with an audit entry each; releases end with what they are beside.

Arguments are validated by `registry` before.
"""

from sqlalchemy import Connection

from shopfit.errors import RegistryError, UnknownReference
from shopfit.registry import queries
from shopfit.registry.database import Database
from shopfit.registry.reference import PREVIOUS, PRODUCTION, Reference
from shopfit.registry.unknown import unknown
from shopfit.registry.version import Version


def found(connection: Connection, reference: Reference) -> Version:
    """The version that `reference` names; raises `UnknownReference` if it names nothing."""
    version = queries.find(connection, reference)
    if version is None:
        raise unknown(connection, reference)
    return version


def check_unreleased(connection: Connection, version: Version) -> None:
    """Check that a version gets no part of the traffic.

    Raises:
        RegistryError: if it does.
    """
    adapter = f"{version.merchant}/{version.recipe}"
    kinds = [
        one.kind
        for one in queries.releases(connection, version.merchant, version.recipe)
        if one.number == version.number
    ]
    if kinds:
        raise RegistryError(
            f"{version.name} cannot be removed: it is the {' and the '.join(kinds)} of {adapter}",
            next_step=f"end that before: {' and '.join(f'`shopfit release end {adapter} {kind}`' for kind in kinds)}",
        )


def point(
    connection: Connection, merchant: str, recipe: str, alias: str, number: int, actor: str, note: str = ""
) -> None:
    """Move `alias` to `number`, and with @production also @previous to its old version; no-op if already there.

    Releases of a version that comes into production end.
    """
    current = queries.aliases(connection, merchant, recipe).get(alias)
    if current == number:
        return
    moves = {alias: number}
    if alias == PRODUCTION and current is not None:
        moves[PREVIOUS] = current
    moved = queries.move_aliases(connection, merchant, recipe, moves)
    queries.record(connection, actor, "promote", merchant, recipe, number, moved + note)
    if alias == PRODUCTION:
        _end_releases(connection, merchant, recipe, number, actor, "; in production")


def _end_releases(connection: Connection, merchant: str, recipe: str, number: int | None, actor: str, why: str) -> None:
    """End the releases of a version, or of all versions of an adapter."""
    for release in queries.releases(connection, merchant, recipe):
        if number in {release.number, None}:
            queries.end_release(connection, release, actor, why)


def promote(database: Database, reference: Reference, alias: str, actor: str, *, force: bool) -> Version:
    """Move an alias to a version. Raises as `Registry.promote` does."""
    if alias == PREVIOUS:
        raise RegistryError(
            f"@{PREVIOUS} always names what @{PRODUCTION} named before, and cannot be moved by hand",
            next_step=f"promote to @{PRODUCTION}, or choose another alias",
        )
    with database.writing() as connection:
        queries.lock(connection, reference.merchant, reference.recipe)
        version = found(connection, reference)
        if version.status == "refused" and not force:
            raise RegistryError(
                f"{version.name} was refused by the gate: {version.reason}",
                next_step="publish a better one, or promote it all the same with `--force` (in Python: `force=True`)",
            )
        forced = "; forced, though refused" if version.status == "refused" else ""
        point(connection, version.merchant, version.recipe, alias, version.number, actor, forced)
        return found(connection, Reference(version.merchant, version.recipe, version.number))


def rollback(database: Database, reference: Reference, actor: str) -> Version:
    """Swap @production and @previous. Raises as `Registry.rollback` does."""
    merchant, recipe = reference.merchant, reference.recipe
    if reference.alias != PRODUCTION:
        raise RegistryError(
            f"a rollback is of {merchant}/{recipe}, not of {reference}", next_step=f"roll back {merchant}/{recipe}"
        )
    with database.writing() as connection:
        queries.lock(connection, merchant, recipe)
        current = found(connection, reference).number
        previous = queries.aliases(connection, merchant, recipe).get(PREVIOUS)
        if previous is None:
            raise RegistryError(
                f"{merchant}/{recipe} has no @{PREVIOUS}: @{current} is the first that was in production",
                next_step="promote a version instead: `shopfit registry ls` shows them",
            )
        moved = queries.move_aliases(connection, merchant, recipe, {PRODUCTION: previous, PREVIOUS: current})
        queries.record(connection, actor, "rollback", merchant, recipe, previous, moved)
        _end_releases(connection, merchant, recipe, previous, actor, "; in production")
        return found(connection, reference)


def to_unalias(version: Version) -> str:
    """An instruction how to remove each alias of a version."""
    commands = [f"`shopfit registry unalias {version.merchant}/{version.recipe}@{one}`" for one in version.aliases]
    return f"take {'the alias' if len(commands) == 1 else 'the aliases'} away: {' and '.join(commands)}"


def unalias(database: Database, reference: Reference, actor: str) -> Version:
    """Remove an alias. Raises as `Registry.unalias` does."""
    with database.writing() as connection:
        queries.lock(connection, reference.merchant, reference.recipe)
        version = found(connection, reference)
        if reference.alias is None:
            raise UnknownReference(
                f"{reference} is a version, not an alias",
                next_step=to_unalias(version) if version.aliases else "leave it: no alias names it",
            )
        gone = queries.remove_alias(connection, reference.merchant, reference.recipe, reference.alias)
        queries.record(connection, actor, "unalias", reference.merchant, reference.recipe, version.number, gone)
        if reference.alias == PRODUCTION:  # nothing is left that a release could be beside
            _end_releases(connection, reference.merchant, reference.recipe, None, actor, "; nothing in production")
        return found(connection, Reference(version.merchant, version.recipe, version.number))
