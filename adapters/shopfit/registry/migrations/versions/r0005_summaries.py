"""What a version's report says in short, so that many are shown without their files."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("shopfit_versions")}
    if "summary" not in there:
        op.add_column("shopfit_versions", sa.Column("summary", sa.JSON, nullable=True))
