"""The latest verification of the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0003"
down_revision = "gateway_0002"


def upgrade() -> None:
    """Create the new table."""
    op.create_table(
        "audit_checks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("broken_at", sa.BigInteger),
        sa.Column("fault", sa.String(200)),
    )
