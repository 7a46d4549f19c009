"""The gateway's tables: trades, each with the state it is in, and the audit log."""

import uuid
from datetime import UTC, datetime

from sqlalchemy import Column, Index, Integer, MetaData, Row, String, Table, insert, select, update

from cb.database import Database, DatabaseBusy, DatabaseUnavailable, Instant, Money, insert_once

from .trade import MOVES, Order, Side, State, Trade, Verdict

metadata = MetaData()

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
    Index("trades_of_user", "user_id", "created_at", "trade_id"),
)
audit_log = Table(
    "audit_log",
    metadata,
    Column("event_id", String(80), primary_key=True),
    Column("trade_id", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("state", String(12), nullable=False),
    Column("detail", String(300)),
    Column("happened_at", Instant, nullable=False),
)


class Store:
    """Keeps trades. Each method is one transaction, and raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(metadata)

    def receive(self, order: Order) -> Trade:
        """Keep a new order."""
        now = datetime.now(UTC)
        trade = Trade(str(uuid.uuid4()), order, State.RECEIVED, 1, None, None, now, now)
        row = {
            "trade_id": trade.trade_id,
            "user_id": order.user_id,
            "symbol": order.symbol,
            "quantity": order.quantity,
            "side": order.side,
            "price": order.price,
            "state": trade.state,
            "version": trade.version,
            "created_at": now,
            "updated_at": now,
        }
        with self._database.write() as connection:
            connection.execute(insert(trades).values(row))
        return trade

    def move(self, trade: Trade, to: Verdict) -> Trade:
        """Move a trade on, if it still is what it was; return it as it then is, moved or not."""
        assert (trade.state, to.state) in MOVES, f"{trade.state} -> {to.state}"
        same = (trades.c.trade_id == trade.trade_id) & (trades.c.version == trade.version)
        moved = update(trades).where(same, trades.c.state == trade.state)
        values = moved.values(
            state=to.state, version=trade.version + 1, code=to.code, detail=to.detail, updated_at=datetime.now(UTC)
        )
        with self._database.write() as connection:
            row = connection.execute(values.returning(trades)).first()
            if row is None:
                row = connection.execute(select(trades).where(trades.c.trade_id == trade.trade_id)).one()
        return _trade(row)

    def find(self, trade_id: str) -> Trade | None:
        with self._database.read() as connection:
            row = connection.execute(select(trades).where(trades.c.trade_id == trade_id)).first()
        return _trade(row) if row else None

    def log(self, trade: Trade) -> None:
        """Append the state of a trade to the audit log, once."""
        row = {
            "event_id": f"{trade.trade_id}:{trade.version}",
            "trade_id": trade.trade_id,
            "version": trade.version,
            "user_id": trade.order.user_id,
            "state": trade.state,
            "detail": trade.detail,
            "happened_at": trade.updated_at,
        }
        with self._database.write() as connection:
            insert_once(connection, audit_log, row)

    def logged(self, trade_id: str) -> list[State]:
        """Return the states of a trade that the audit log knows, in their order."""
        states = select(audit_log.c.state).where(audit_log.c.trade_id == trade_id).order_by(audit_log.c.version)
        with self._database.read() as connection:
            return [State(state) for state in connection.scalars(states)]

    def health(self) -> dict[str, str]:
        """Return whether the database can be read, as a health check."""
        try:
            self.find("")
        except DatabaseBusy as error:
            return {"status": "DEGRADED", "reason": str(error)}  # it works, and is at its limit
        except DatabaseUnavailable as error:
            return {"status": "DOWN", "reason": str(error)}
        return {"status": "UP"}


def _trade(row: "Row[tuple[object, ...]]") -> Trade:
    order = Order(row.user_id, row.symbol, row.quantity, Side(row.side), row.price)
    state = State(row.state)
    return Trade(row.trade_id, order, state, row.version, row.code, row.detail, row.created_at, row.updated_at)
