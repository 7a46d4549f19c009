"""Trades and the audit log, as they were before the first migration."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, unless an earlier version of the service did."""
    op.create_table(
        "trades",
        sa.Column("trade_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("symbol", sa.String(12), nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("price", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("code", sa.String(40)),
        sa.Column("detail", sa.String(300)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_index("trades_of_user", "trades", ["user_id", "created_at", "trade_id"], if_not_exists=True)
    op.create_table(
        "audit_log",
        sa.Column("event_id", sa.String(80), primary_key=True),
        sa.Column("trade_id", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("detail", sa.String(300)),
        sa.Column("happened_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
