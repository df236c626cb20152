"""Secrets that servers share: what answer ids are signed with."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    shared = op.create_table(
        "shopfit_secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
    )
    op.bulk_insert(shared, [{"name": "answers", "value": secrets.token_hex(32)}])
