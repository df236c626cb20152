"""The tables of the registry.

Every row of a version has its merchant and recipe, and foreign keys include them: so one merchant's row can never
reference another merchant's. The migrations create these tables; a test checks that both agree.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

HEAD = "0005"  # the newest migration
VERSION_TABLE = "shopfit_schema"  # Alembic's own; its usual name would clash in a database that others use too

METADATA = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC; SQLite stores no time zone, so it is added on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC."""
        del dialect
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Back from UTC."""
        del dialect
        if value is None:
            return None
        moment: datetime = value
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


# One row a (merchant, recipe): it counts the versions ever published, and writers lock it.
ADAPTERS = Table(
    "shopfit_adapters",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("recipe", String(63), primary_key=True),
    Column("last_number", Integer, nullable=False),
)

VERSIONS = Table(
    "shopfit_versions",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("recipe", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("base_name", Text, nullable=False),
    Column("base_fingerprint", Text, nullable=False),
    Column("method", String(32), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("summary", JSON(none_as_null=True), nullable=True),
    ForeignKeyConstraint(
        ["merchant", "recipe"],
        ["shopfit_adapters.merchant", "shopfit_adapters.recipe"],
        name="shopfit_versions_adapter",
    ),
    CheckConstraint("number >= 1", name="shopfit_versions_number"),
    CheckConstraint("status IN ('ready', 'refused')", name="shopfit_versions_status"),
)

_VERSION = [VERSIONS.c.merchant, VERSIONS.c.recipe, VERSIONS.c.number]

FILES = Table(
    "shopfit_files",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("recipe", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("path", String(255), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(["merchant", "recipe", "number"], _VERSION, name="shopfit_files_version"),
    Index("shopfit_files_sha256", "sha256"),
)

ALIASES = Table(
    "shopfit_aliases",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("recipe", String(63), primary_key=True),
    Column("alias", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(["merchant", "recipe", "number"], _VERSION, name="shopfit_aliases_version"),
)

# An API key of a merchant, or of the platform if it has none; no foreign keys, as it may precede the first version.
KEYS = Table(
    "shopfit_keys",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("merchant", String(63), nullable=True),
    Column("sha256", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("name", Text, nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("expires", UtcDateTime, nullable=True),
    Column("revoked", UtcDateTime, nullable=True),
    Column("actor", Text, nullable=False),
    Index("shopfit_keys_merchant", "merchant"),
)

# No foreign keys: entries outlive their versions.
AUDIT = Table(
    "shopfit_audit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("time", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(16), nullable=False),
    Column("merchant", String(63), nullable=False),
    Column("recipe", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Index("shopfit_audit_merchant", "merchant"),
)

# One row: a random mark, which every change that servers watch replaces.
REVISION = Table(
    "shopfit_revision",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("mark", String(32), nullable=False),
)

# The foreign key keeps a version as long as it gets traffic.
RELEASES = Table(
    "shopfit_releases",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("recipe", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("share", Float, nullable=False),
    ForeignKeyConstraint(["merchant", "recipe", "number"], _VERSION, name="shopfit_releases_version"),
    CheckConstraint("kind IN ('canary', 'shadow')", name="shopfit_releases_kind"),
    CheckConstraint("share > 0 AND share <= 1", name="shopfit_releases_share"),
)

# A merchant's current catalog: its content is the blob of that digest.
CATALOGS = Table(
    "shopfit_catalogs",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("items", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("changed", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Index("shopfit_catalogs_digest", "digest"),
)

LIMITS = Table(
    "shopfit_limits",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("requests_per_minute", BigInteger, nullable=True),
    Column("concurrent", BigInteger, nullable=True),
    Column("tokens_per_day", BigInteger, nullable=True),
)

USAGE = Table(
    "shopfit_usage",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)

# What servers share and show nobody, by what it is for.
SECRETS = Table(
    "shopfit_secrets",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

# `event_key` is a hash of what makes an event the same one, so that telling it again changes nothing.
FEEDBACK = Table(
    "shopfit_feedback",
    METADATA,
    Column("merchant", String(63), primary_key=True),
    Column("event_key", String(64), primary_key=True),
    Column("answer_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("item", Text, nullable=True),
    Column("value", JSON(none_as_null=True), nullable=True),
    Column("version", String(160), nullable=True),
    Column("user_hash", Text, nullable=True),
    Column("event", Text, nullable=True),
    Index("shopfit_feedback_at", "merchant", "at"),
)
