"""Very many merchants, as rows that are written straight into the database: publishing each would take hours."""

from sqlalchemy import create_engine, insert, select, update

from shopfit.registry.schema import ADAPTERS, ALIASES, REVISION, VERSIONS
from shopfit.settings import Settings


def add_merchants(settings: Settings, count: int, *, like: tuple[str, str]) -> None:
    """Give many merchants a version each, in production, without its files.

    Args:
        settings: of the registry.
        count: of merchants; they are called shop-00000 and so on.
        like: merchant and recipe of the adapter whose version 1 theirs are like.
    """
    engine = create_engine(settings.registry)
    with engine.begin() as connection:
        where = [VERSIONS.c.merchant == like[0], VERSIONS.c.recipe == like[1], VERSIONS.c.number == 1]
        row = connection.execute(select(VERSIONS).where(*where)).one()._asdict()
        names = [f"shop-{number:05}" for number in range(count)]
        adapter = {"recipe": like[1]}
        connection.execute(insert(ADAPTERS), [adapter | {"merchant": name, "last_number": 1} for name in names])
        connection.execute(insert(VERSIONS), [row | {"merchant": name} for name in names])
        alias = adapter | {"alias": "production", "number": 1}
        connection.execute(insert(ALIASES), [alias | {"merchant": name} for name in names])
        connection.execute(update(REVISION).values(mark=f"{count:032}"))
    engine.dispose()
