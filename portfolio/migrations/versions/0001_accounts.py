"""Accounts, trades and their entries, as they were before the first migration."""

import sqlalchemy as sa
from alembic import op

revision = "portfolio_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, unless an earlier version of the service did."""
    op.create_table(
        "accounts",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("opening_cash", sa.BigInteger, nullable=False),
        sa.Column("cash", sa.BigInteger, sa.CheckConstraint("cash >= 0"), nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "positions",
        sa.Column("user_id", sa.String(64), sa.ForeignKey("accounts.user_id"), primary_key=True),
        sa.Column("symbol", sa.String(12), primary_key=True),
        sa.Column("quantity", sa.BigInteger, sa.CheckConstraint("quantity >= 0"), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "trades",
        sa.Column("trade_id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("accounts.user_id"), nullable=False),
        sa.Column("symbol", sa.String(12), nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("price", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(12), nullable=False),
        sa.Column("code", sa.String(40)),
        sa.Column("detail", sa.String(300)),
        sa.Column("applied_at", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "entries",
        sa.Column("trade_id", sa.String(64), sa.ForeignKey("trades.trade_id"), primary_key=True),
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.Column("asset", sa.String(12), primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
