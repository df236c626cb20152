"""API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "shopfit_keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("merchant", sa.String(63), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sa.Text, nullable=False),
    )
    op.create_index("shopfit_keys_merchant", "shopfit_keys", ["merchant"])
