"""A trigger that lets the audit log grow only at its end, and the result of the comparison with the portfolio."""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0004"
down_revision = "gateway_0003"


def upgrade() -> None:
    """Create the new table and the trigger."""
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("trades", sa.BigInteger, nullable=False),
        sa.Column("differences", sa.BigInteger, nullable=False),
        sa.Column("examples", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        return  # its triggers treat an upsert as an UPDATE and refuse it already
    # In SQLite, REPLACE deletes rows that collide in any unique column or the rowid without firing delete triggers.
    op.execute(
        """
        CREATE TRIGGER audit_at_end BEFORE INSERT ON audit_entries
        WHEN NEW.n IS NOT (SELECT COALESCE(MAX(n), 0) + 1 FROM audit_entries WHERE typeof(n) = 'integer')
            OR EXISTS (SELECT 1 FROM audit_entries WHERE event_id = NEW.event_id)
            OR EXISTS (SELECT 1 FROM audit_entries WHERE rowid = NEW.rowid)
        BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
        """
    )
