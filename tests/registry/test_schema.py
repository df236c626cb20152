import secrets
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from tests.registry.conftest import MakeBundle

from shopfit.registry import Limits, Registry, database
from shopfit.registry.schema import HEAD, METADATA, VERSION_TABLE
from shopfit.settings import Settings

SINCE_0003 = (
    "shopfit_revision",
    "shopfit_releases",
    "shopfit_catalogs",
    "shopfit_limits",
    "shopfit_usage",
    "shopfit_feedback",
)


SINCE_0004 = ("shopfit_secrets",)


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


def test_a_registry_from_before_keys_keeps_its_versions(durable: Settings, make_bundle: MakeBundle) -> None:
    with Registry.open(durable) as registry:
        first = registry.publish(make_bundle(), promote=True, actor="ada")
        registry.publish(make_bundle(seed=1), promote=True, actor="ada")
        versions, audit = registry.versions(), registry.audit()
    engine = create_engine(durable.registry)
    with engine.begin() as connection:  # the tables of schema 0001, which had no more than these
        for table in (*SINCE_0004, *SINCE_0003, "shopfit_keys"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE shopfit_schema SET version_num = '0001'"))
    engine.dispose()
    with Registry.open(durable) as registry:
        assert (registry.versions(), registry.audit(), registry.keys()) == (versions, audit, [])
        assert registry.verify() == []
        assert registry.fetch(first, durable.cache).digest == first.digest
        token = registry.create_key("acme", ["infer"], actor="ada").token
        assert registry.check_key(token).merchant == "acme"
    test_the_migrations_build_these_tables(durable)


def test_a_registry_from_before_gateways_keeps_what_it_has(durable: Settings, make_bundle: MakeBundle) -> None:
    with Registry.open(durable) as registry:
        for seed in range(2):
            registry.publish(make_bundle(seed=seed), promote=seed == 0, actor="ada")
        token = registry.create_key("acme", ["infer"], actor="ada").token
        versions, audit, keys = registry.versions(), registry.audit(), registry.keys()
    engine = create_engine(durable.registry)
    with engine.begin() as connection:  # the tables of schema 0002
        for table in (*SINCE_0004, *SINCE_0003):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE shopfit_schema SET version_num = '0002'"))
    engine.dispose()
    with Registry.open(durable) as registry:
        assert (registry.versions(), registry.audit(), registry.keys()) == (versions, audit, keys)
        assert registry.check_key(token).merchant == "acme"
        assert registry.verify() == []
        assert (registry.releases(), registry.catalogs(), registry.limits()) == ([], {}, {})
        before = registry.revision()
        registry.start_release("acme/review-sentiment@2", kind="canary", share=0.1, actor="ada")
        registry.set_limits("acme", Limits(concurrent=1), actor="ada")
        registry.put_catalog("acme", [{"id": "a", "title": "Tent"}], actor="ada")
        assert registry.revision() != before
        receipt = registry.erase("acme", durable, actor="ada")
        assert receipt.rows == {"releases": 1, "catalogs": 1, "limits": 1}
    test_the_migrations_build_these_tables(durable)


def test_every_registry_has_a_secret_of_its_own_and_keeps_it(durable: Settings) -> None:
    with Registry.open(durable) as registry, Registry.open(durable) as again:
        secret = registry.answer_secret()
        assert again.answer_secret() == secret
    engine = create_engine(durable.registry)
    with engine.begin() as connection:  # the tables of schema 0003
        connection.execute(text("DROP TABLE shopfit_secrets"))
        connection.execute(text("UPDATE shopfit_schema SET version_num = '0003'"))
    engine.dispose()
    with Registry.open(durable) as registry:
        assert len(registry.answer_secret()) == 32
        assert registry.answer_secret() != secret
    test_the_migrations_build_these_tables(durable)


def test_whoever_may_only_read_reads_no_secrets(postgresql: str, home: Path) -> None:
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as owner:
        name = f"reader_{secrets.token_hex(4)}"
        owner.execute(f"CREATE ROLE {name}")
        owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {name}")
        try:
            Registry.open(Settings(home, postgresql, str(home / "blobs"))).close()
            owner.execute(f"SET ROLE {name}")
            owner.execute("SELECT * FROM shopfit_adapters")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute("SELECT * FROM shopfit_secrets")
        finally:
            owner.execute("RESET ROLE")
            owner.execute(f"DROP OWNED BY {name}")
            owner.execute(f"DROP ROLE {name}")
