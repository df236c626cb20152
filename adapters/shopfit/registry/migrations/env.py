"""What Alembic runs: the migrations, on the connection and in the transaction that `database.py` hands over."""

from alembic import context

from shopfit.registry.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
