"""The gateway's tables."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

from servicekit.database import Instant, Money

#: auto-incremented; SQLite increments INTEGER only
_Counter = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

# Conditions of the background queries. A partial index serves a query only if the condition is the same text:
# SQLAlchemy would write parameters, or `audited = 0`, and SQLite would scan the whole table.
#: of trades
IS_PENDING = text("state IN ('RECEIVED', 'APPLYING')")
#: of the journal
NOT_AUDITED, NOT_NOTIFIED = text("NOT audited"), text("NOT notified")

trades = Table(
    "trades",
    metadata,
    Column("trade_id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False),
    Column("symbol", String(12), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("side", String(4), nullable=False),
    Column("price", Money, nullable=False),
    Column("state", String(12), nullable=False),
    Column("version", Integer, nullable=False),
    Column("code", String(40)),
    Column("detail", String(300)),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("seq", Integer, nullable=False, server_default="0"),
    Column("key", String(255)),
    Column("lease_until", Instant, nullable=False, server_default="0"),
    Column("attempted_at", Instant, nullable=False, server_default="0"),
    Index("trades_of_user", "user_id", "created_at", "trade_id"),
    Index("trades_by_key", "user_id", "key", unique=True),
    Index("trades_pending", "lease_until", sqlite_where=IS_PENDING, postgresql_where=IS_PENDING),
)
# By user: shares by symbol, including pending buys, and cash moved by day.
exposure = Table(
    "exposure",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("what", String(12), primary_key=True),
    Column("amount", Money, nullable=False),
)
# The outbox: each move of each trade, with a flag per reader. Rows are never deleted.
journal = Table(
    "journal",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("trade_id", String(64), ForeignKey("trades.trade_id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("state", String(12), nullable=False),
    Column("code", String(40)),
    Column("detail", String(300)),
    Column("at", Instant, nullable=False),
    Column("audited", Boolean, nullable=False),
    Column("notified", Boolean, nullable=False),
    Index("journal_of_trade", "trade_id", "seq", unique=True),
    Index("journal_to_audit", "id", sqlite_where=NOT_AUDITED, postgresql_where=NOT_AUDITED),
    Index("journal_to_notify", "id", sqlite_where=NOT_NOTIFIED, postgresql_where=NOT_NOTIFIED),
)
# The audit log. A trigger makes it append-only; each entry has the hash of the previous one.
audit_log = Table(
    "audit_entries",
    metadata,
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", String(80), nullable=False, unique=True),
    Column("trade_id", String(64), nullable=False, index=True),
    Column("entry", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
# The latest verification of the audit log: one row.
audit_checks = Table(
    "audit_checks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("broken_at", BigInteger),
    Column("fault", String(200)),
)
# The latest comparison of all settled trades with the portfolio: one row.
comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("trades", BigInteger, nullable=False),
    Column("differences", BigInteger, nullable=False),
    Column("examples", Text, nullable=False),
)
# Notifications of users; without a user, of the operators.
notifications = Table(
    "notifications",
    metadata,
    Column("id", _Counter, primary_key=True, autoincrement=True),
    Column("event_id", String(80), nullable=False, unique=True),
    Column("user_id", String(64)),
    Column("kind", String(20), nullable=False),
    Column("text", String(400), nullable=False),
    Column("trade_id", String(64)),
    Column("at", Instant, nullable=False),
    Index("notifications_of_user", "user_id", "id"),
)
