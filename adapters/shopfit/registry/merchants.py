"""Which merchants the registry knows: a name that is mistyped may come to be somebody's."""

from collections.abc import Iterable

from sqlalchemy import Connection, select

from shopfit.errors import RegistryError, UnknownMerchant
from shopfit.recipe.names import HOUSE
from shopfit.recipe.suggestions import did_you_mean
from shopfit.registry.queries import batched
from shopfit.registry.schema import KEYS, VERSIONS

_NAMES = 200  # a statement


def check_known(connection: Connection, merchant: str, next_step: str) -> None:
    """Check that a merchant has versions or keys.

    Raises:
        UnknownMerchant: if it has neither.
        RegistryError: if it is nobody's name.
    """
    if merchant == HOUSE:
        raise RegistryError(
            f"{HOUSE} is no merchant: its versions are the starters", next_step="name the merchant that is meant"
        )
    if not known(connection, [merchant]):
        names = {one for column in _COLUMNS for one in connection.execute(select(column).distinct()).scalars()}
        hint = did_you_mean(merchant, sorted(names - {HOUSE, None}))
        raise UnknownMerchant(
            f"there is nothing of a merchant {merchant!r} in the registry{hint}",
            next_step=f"correct the name (`shopfit registry ls` shows them), or {next_step}",
        )


def known(connection: Connection, merchants: Iterable[str]) -> set[str]:
    """Those of some merchants that have versions or keys."""
    found: set[str] = set()
    for part in batched(sorted(set(merchants)), _NAMES):
        for column in _COLUMNS:
            found.update(connection.execute(select(column).where(column.in_(part)).distinct()).scalars())
    return found - {HOUSE}


_COLUMNS = (VERSIONS.c.merchant, KEYS.c.merchant)
