"""The first tables.

Written out in full: a migration says what the tables were at its time, not what schema.py says today.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "shopfit_adapters",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("recipe", sa.String(63), primary_key=True),
        sa.Column("last_number", sa.Integer, nullable=False),
    )
    op.create_table(
        "shopfit_versions",
        *_version_key(),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("base_name", sa.Text, nullable=False),
        sa.Column("base_fingerprint", sa.Text, nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant", "recipe"],
            ["shopfit_adapters.merchant", "shopfit_adapters.recipe"],
            name="shopfit_versions_adapter",
        ),
        sa.CheckConstraint("number >= 1", name="shopfit_versions_number"),
        sa.CheckConstraint("status IN ('ready', 'refused')", name="shopfit_versions_status"),
    )
    op.create_table(
        "shopfit_files",
        *_version_key(),
        sa.Column("path", sa.String(255), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        _of_version("shopfit_files_version"),
    )
    op.create_index("shopfit_files_sha256", "shopfit_files", ["sha256"])
    op.create_table(
        "shopfit_aliases",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("recipe", sa.String(63), primary_key=True),
        sa.Column("alias", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        _of_version("shopfit_aliases_version"),
    )
    op.create_table(
        "shopfit_audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("merchant", sa.String(63), nullable=False),
        sa.Column("recipe", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("shopfit_audit_merchant", "shopfit_audit", ["merchant"])


def _version_key() -> list[sa.Column[str] | sa.Column[int]]:
    return [
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("recipe", sa.String(63), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    ]


def _of_version(name: str) -> sa.ForeignKeyConstraint:
    key = ["merchant", "recipe", "number"]
    return sa.ForeignKeyConstraint(key, [f"shopfit_versions.{column}" for column in key], name=name)
