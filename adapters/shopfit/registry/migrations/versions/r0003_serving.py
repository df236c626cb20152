"""What servers share: releases, catalogs, limits, usage, feedback, and the revision that they watch."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    marks = op.create_table(
        "shopfit_revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("mark", sa.String(32), nullable=False),
    )
    op.bulk_insert(marks, [{"id": 1, "mark": secrets.token_hex(16)}])
    version = ["merchant", "recipe", "number"]
    op.create_table(
        "shopfit_releases",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("recipe", sa.String(63), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(
            version, [f"shopfit_versions.{column}" for column in version], name="shopfit_releases_version"
        ),
        sa.CheckConstraint("kind IN ('canary', 'shadow')", name="shopfit_releases_kind"),
        sa.CheckConstraint("share > 0 AND share <= 1", name="shopfit_releases_share"),
    )
    op.create_table(
        "shopfit_catalogs",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
    )
    op.create_index("shopfit_catalogs_digest", "shopfit_catalogs", ["digest"])
    op.create_table(
        "shopfit_limits",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("requests_per_minute", sa.BigInteger, nullable=True),
        sa.Column("concurrent", sa.BigInteger, nullable=True),
        sa.Column("tokens_per_day", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "shopfit_usage",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "shopfit_feedback",
        sa.Column("merchant", sa.String(63), primary_key=True),
        sa.Column("event_key", sa.String(64), primary_key=True),
        sa.Column("answer_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("item", sa.Text, nullable=True),
        sa.Column("value", sa.JSON, nullable=True),
        sa.Column("version", sa.String(160), nullable=True),
        sa.Column("user_hash", sa.Text, nullable=True),
        sa.Column("event", sa.Text, nullable=True),
    )
    op.create_index("shopfit_feedback_at", "shopfit_feedback", ["merchant", "at"])
