"""Secrets that servers share: what answer ids are signed with."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_OWNERS_ALONE = """
DO $$
DECLARE reader name;
BEGIN
    FOR reader IN
        SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'shopfit_secrets' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE ALL ON shopfit_secrets FROM %I', reader);
    END LOOP;
END $$
"""


def upgrade() -> None:
    shared = op.create_table(
        "shopfit_secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":  # roles that read the registry, as vLLM's, read no secrets
        op.execute(_OWNERS_ALONE)
    op.bulk_insert(shared, [{"name": "answers", "value": secrets.token_hex(32)}])
