"""An audit log that grows at its end only, and the result of the comparison with the portfolio."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0004"
down_revision = "gateway_0003"


def upgrade() -> None:
    """Add what is new."""
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("trades", sa.BigInteger, nullable=False),
        sa.Column("differences", sa.BigInteger, nullable=False),
        sa.Column("examples", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        return  # there an upsert is an UPDATE to triggers, and so is refused already
    # SQLite deletes what REPLACE collides with, by any unique column or the rowid, without a word to its triggers.
    op.execute(
        """
        CREATE TRIGGER audit_at_end BEFORE INSERT ON audit_entries
        WHEN NEW.n IS NOT (SELECT COALESCE(MAX(n), 0) + 1 FROM audit_entries WHERE typeof(n) = 'integer')
            OR EXISTS (SELECT 1 FROM audit_entries WHERE event_id = NEW.event_id)
            OR EXISTS (SELECT 1 FROM audit_entries WHERE rowid = NEW.rowid)
        BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
        """
    )
