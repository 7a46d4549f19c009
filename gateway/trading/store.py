"""The stored trades and the transactions that move them."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal, select, tuple_, update

from servicekit import Log, PortableError
from servicekit.database import Database, DatabaseBusyError, DatabaseUnavailableError, Instant, insert_once

from .exposure import Exposure, reserve, update_exposure
from .outbox import Backlog, record_move
from .tables import IS_PENDING, trades
from .trade import MOVES, Move, Order, Side, Trade, TradeState

log = Log(__name__)

#: time until a trade with a damaged row is tried again
_DAMAGED_RETRY = timedelta(minutes=1)
#: raises an error if the exposure exceeds a limit
Admit = Callable[[Exposure], object]


class KeyTakenError(PortableError):
    """A concurrent order of the user has the same Idempotency-Key."""


class TradeStore:
    """Stores trades. Each method is one transaction and raises DatabaseUnavailableError.

    Methods that change a trade compare its version: if the stored trade is newer, they change nothing and return None.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> datetime:
        """Return the time by which leases expire."""
        return self._clock()

    def receive(self, order: Order, lease: timedelta, admit: Admit, key: str | None = None) -> Trade:
        """Insert a new order, leased to the caller. Raises KeyTakenError and the errors of `admit`."""
        now = self._clock()
        row = {
            "trade_id": str(uuid.uuid4()),
            "user_id": order.user_id,
            "symbol": order.symbol,
            "quantity": order.quantity,
            "side": order.side,
            "price": order.price,
            "state": TradeState.RECEIVED,
            "version": 1,
            "seq": 1,
            "key": key,
            "lease_until": now + lease,
            "attempted_at": now,
            "created_at": now,
            "updated_at": now,
        }
        with self._database.write() as connection:
            # The trade first, then the exposure, as in every move: two orders with one key could deadlock otherwise.
            if not insert_once(connection, trades, row):
                raise KeyTakenError(key)
            admit(reserve(connection, order, now))
            trade = _trade(SimpleNamespace(**row, code=None, detail=None))
            record_move(connection, trade)
        return trade

    def retry(self, trade: Trade, lease: timedelta, admit: Admit) -> Trade | None:
        """Receive a refused order again. Raises the errors of `admit`."""
        now = self._clock()
        with self._database.write() as connection:
            moved = self._move(connection, trade, Move(TradeState.RECEIVED), lease_until=now + lease, attempted_at=now)
            if moved:
                admit(reserve(connection, trade.order, now))
        return moved

    def move(self, trade: Trade, to: Move) -> Trade | None:
        """Move a trade to another state."""
        with self._database.write() as connection:
            moved = self._move(connection, trade, to)
            if moved:
                update_exposure(connection, moved)
        return moved

    def lease(self, trade: Trade, length: timedelta) -> Trade | None:
        """Lease a trade from now on; a length of 0 leaves it to the reconciler."""
        with self._database.write() as connection:
            return _update(connection, trade, version=trade.version + 1, lease_until=self._clock() + length)

    def claim(self, length: timedelta) -> Trade | None:
        """Lease the pending trade whose lease expired first. Return None if there is none.

        A lease longer than twice `length` was taken before the clock was set back, and counts as expired: the clocks
        of hosts differ by less.
        """
        now = self._clock()
        with self._database.read() as connection:  # usually there is none, and readers do not wait for writers
            row = connection.execute(_EXPIRED, {"now": now}).first()
            row = row or connection.execute(_BEFORE_CLOCK_SET_BACK, {"latest": now + 2 * length}).first()
        if row is None:
            return None
        try:
            return self.lease(_trade(row), length)
        except ValueError as error:  # a damaged row
            log.warning("trade %s cannot be settled: %s", row.trade_id, error)
        with self._database.write() as connection:  # the other trades are claimed first
            later = update(trades).where(trades.c.trade_id == row.trade_id)
            connection.execute(later.values(lease_until=now + _DAMAGED_RETRY))
        return None

    def find(self, trade_id: str) -> Trade | None:
        with self._database.read() as connection:
            return _first(connection, _BY_ID, trade=trade_id)

    def by_key(self, user_id: str, key: str) -> Trade | None:
        with self._database.read() as connection:
            return _first(connection, _BY_KEY, user=user_id, idempotency=key)

    def of_user(self, user_id: str, limit: int, before: tuple[datetime, str] | None = None) -> list[Trade]:
        """Return at most `limit` trades of a user, newest first; with `before`, those older than a time and id."""
        query = select(trades).where(trades.c.user_id == user_id)
        if before:
            last = tuple_(literal(before[0], Instant), literal(before[1]))
            query = query.where(tuple_(trades.c.created_at, trades.c.trade_id) < last)
        newest = query.order_by(trades.c.created_at.desc(), trades.c.trade_id.desc()).limit(limit)
        with self._database.read() as connection:
            return list(_sound(connection.execute(newest)))

    def pending_since(self, moment: datetime, limit: int) -> list[Trade]:
        """Return at most `limit` trades that were attempted before a moment and are still pending."""
        old = select(trades).where(IS_PENDING, trades.c.attempted_at <= moment).limit(limit)
        with self._database.read() as connection:
            return list(_sound(connection.execute(old)))

    def backlog(self) -> Backlog:
        """Return the number of pending trades and the time of the oldest attempt."""
        query = select(func.count(), func.min(trades.c.attempted_at)).where(IS_PENDING)
        with self._database.read() as connection:
            size, oldest = connection.execute(query).one()
        return Backlog(size, oldest)

    def health(self) -> dict[str, str]:
        """Return the health of the database: UP, DEGRADED at its limit, or DOWN."""
        try:
            self.find("")
        except DatabaseBusyError as error:
            return {"status": "DEGRADED", "reason": str(error)}
        except DatabaseUnavailableError as error:
            return {"status": "DOWN", "reason": str(error)}
        return {"status": "UP"}

    def _move(self, connection: Connection, trade: Trade, to: Move, **changes: object) -> Trade | None:
        assert (trade.state, to.state) in MOVES, f"{trade.state} -> {to.state}"
        moved = _update(
            connection,
            trade,
            state=to.state,
            version=trade.version + 1,
            seq=trade.seq + 1,
            code=to.code,
            detail=to.detail,
            updated_at=self._clock(),
            **changes,
        )
        if moved:
            record_move(connection, moved)
        return moved


# Built once: SQLAlchemy takes longer to build a statement than SQLite to execute it.
_BY_ID = select(trades).where(trades.c.trade_id == bindparam("trade"))
_BY_KEY = select(trades).where(trades.c.user_id == bindparam("user"), trades.c.key == bindparam("idempotency"))
_EXPIRED = (
    select(trades).where(IS_PENDING, trades.c.lease_until <= bindparam("now")).order_by(trades.c.lease_until).limit(1)
)
_BEFORE_CLOCK_SET_BACK = select(trades).where(IS_PENDING, trades.c.lease_until > bindparam("latest")).limit(1)
_UPDATE = (
    update(trades)
    .where(trades.c.trade_id == bindparam("trade"), trades.c.version == bindparam("known"))
    .returning(trades)
)


def _update(connection: Connection, trade: Trade, **values: object) -> Trade | None:
    return _first(connection, _UPDATE, trade=trade.trade_id, known=trade.version, **values)


def _first(connection: Connection, statement: Any, **values: object) -> Trade | None:
    row = connection.execute(statement, values).first()
    return _trade(row) if row else None


def _sound(rows: Iterable[Any]) -> Iterator[Trade]:
    """Yield the trades of rows. A damaged row is logged and skipped."""
    for row in rows:
        try:
            yield _trade(row)
        except ValueError as error:
            log.warning("trade %s cannot be read: %s", row.trade_id, error)


def _trade(row: Any) -> Trade:
    order = Order(row.user_id, row.symbol, row.quantity, Side(row.side), row.price)
    return Trade(
        trade_id=row.trade_id,
        order=order,
        state=TradeState(row.state),
        version=row.version,
        seq=row.seq,
        code=row.code,
        detail=row.detail,
        key=row.key,
        lease_until=row.lease_until,
        attempted_at=row.attempted_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
