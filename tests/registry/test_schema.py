from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from shopfit.registry import Registry, database
from shopfit.registry.schema import HEAD, METADATA, VERSION_TABLE
from shopfit.settings import Settings


def test_the_migrations_build_these_tables(durable: Settings) -> None:
    Registry.open(durable).close()
    engine = create_engine(durable.registry)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(database._MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
