"""Very many merchants, as rows that are written straight into the database: publishing each would take hours."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import create_engine, insert, select, update

from shopfit.registry.schema import ADAPTERS, ALIASES, REVISION, VERSIONS
from shopfit.settings import Settings


def row_of(settings: Settings, merchant: str, recipe: str) -> dict[str, Any]:
    """The row of an adapter's first version."""
    engine = create_engine(settings.registry)
    wanted = {"merchant": merchant, "recipe": recipe, "number": 1}
    with engine.begin() as connection:
        statement = select(VERSIONS).where(*(VERSIONS.c[column] == value for column, value in wanted.items()))
        row = dict(connection.execute(statement).one()._mapping)
    engine.dispose()
    return row


def add_merchants(settings: Settings, count: int, row: Mapping[str, Any]) -> None:
    """Give many merchants a version each, in production, without its files.

    Args:
        settings: of the registry.
        count: of merchants; they are called shop-00000 and so on.
        row: of a version, which theirs are like.
    """
    names = [f"shop-{number:05}" for number in range(count)]
    adapter = {"recipe": row["recipe"]}
    alias = adapter | {"alias": "production", "number": 1}
    engine = create_engine(settings.registry)
    with engine.begin() as connection:
        connection.execute(insert(ADAPTERS), [adapter | {"merchant": name, "last_number": 1} for name in names])
        connection.execute(insert(VERSIONS), [{**row, "number": 1, "merchant": name} for name in names])
        connection.execute(insert(ALIASES), [alias | {"merchant": name} for name in names])
        connection.execute(update(REVISION).values(mark=f"{count:032}"))
    engine.dispose()
