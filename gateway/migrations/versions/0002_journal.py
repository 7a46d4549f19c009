"""The journal, the chained audit log, exposure, notifications; leases and keys of trades.

An earlier version stored only the state of a trade. It becomes the trade's first entry in the journal, from which the
new audit log is filled; the old audit log had no other facts.
"""

import sqlalchemy as sa
from alembic import op

revision = "gateway_0002"
down_revision = "gateway_0001"

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_PENDING = sa.text("state IN ('RECEIVED', 'APPLYING')")


def upgrade() -> None:
    """Create the new tables and copy the existing data."""
    for column in (
        sa.Column("seq", sa.Integer, nullable=False, server_default="0"),
        sa.Column("key", sa.String(255)),
        sa.Column("lease_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("attempted_at", sa.BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("trades", column)
    op.execute("UPDATE trades SET seq = 1, attempted_at = created_at")
    op.create_index("trades_by_key", "trades", ["user_id", "key"], unique=True)
    op.create_index("trades_pending", "trades", ["lease_until"], sqlite_where=_PENDING, postgresql_where=_PENDING)
    _create_exposure()
    _create_journal()
    _create_audit_entries()
    op.drop_table("audit_log")
    op.create_table(
        "notifications",
        sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.String(80), nullable=False, unique=True),
        sa.Column("user_id", sa.String(64)),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("text", sa.String(400), nullable=False),
        sa.Column("trade_id", sa.String(64)),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("notifications_of_user", "notifications", ["user_id", "id"])


def _create_exposure() -> None:
    op.create_table(
        "exposure",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("what", sa.String(12), primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
    )
    op.execute(
        """
        INSERT INTO exposure (user_id, what, amount)
        SELECT user_id, symbol, SUM(CASE WHEN side = 'BUY' THEN quantity ELSE -quantity END) * 10000
        FROM trades
        WHERE state = 'FILLED' OR (side = 'BUY' AND state IN ('RECEIVED', 'APPLYING'))
        GROUP BY user_id, symbol
        """
    )
    # By day too, from which an order that is not booked is subtracted. No order above an account's limit is included.
    day = "strftime('%Y-%m-%d', created_at / 1000000, 'unixepoch')"
    if op.get_bind().dialect.name == "postgresql":
        day = "to_char(to_timestamp(created_at / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    values = "SELECT user_id, DAY, SUM(quantity * price) FROM trades WHERE state IN ('FILLED', 'RECEIVED', 'APPLYING')"
    possible = "AND price / 10000 * quantity < 100000000000000 GROUP BY user_id, DAY"
    op.execute(f"INSERT INTO exposure (user_id, what, amount) {values} {possible}".replace("DAY", day))


def _create_journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("trade_id", sa.String(64), sa.ForeignKey("trades.trade_id"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("code", sa.String(40)),
        sa.Column("detail", sa.String(300)),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("audited", sa.Boolean, nullable=False),
        sa.Column("notified", sa.Boolean, nullable=False),
    )
    op.create_index("journal_of_trade", "journal", ["trade_id", "seq"], unique=True)
    for reader, column in (("audit", "audited"), ("notify", "notified")):
        unsent = sa.text(f"NOT {column}")
        op.create_index(f"journal_to_{reader}", "journal", ["id"], sqlite_where=unsent, postgresql_where=unsent)
    op.execute(
        """
        INSERT INTO journal (trade_id, seq, state, code, detail, at, audited, notified)
        SELECT trade_id, 1, state, code, detail, updated_at, false, true FROM trades ORDER BY created_at
        """
    )


def _create_audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_id", sa.String(80), nullable=False, unique=True),
        sa.Column("trade_id", sa.String(64), nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_entries_trade_id", "audit_entries", ["trade_id"])
    # A trigger that raises; a rule with DO INSTEAD NOTHING would hide the attempt.
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            """
            CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the audit log only grows'; END $$
            """
        )
        op.execute(
            """
            CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
            FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()
            """
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"""
            CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit_entries
            BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END
            """
        )
