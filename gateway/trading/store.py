"""The trades, and the transactions that move them."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal, select, tuple_, update

from cb.log import Log
from cb.pickling import PortableError
from gateway.services.exposure import Exposure, follow, reserve
from servicekit.database import Database, DatabaseBusyError, DatabaseUnavailableError, Instant, insert_once

from .outbox import note
from .tables import IS_PENDING, trades
from .trade import MOVES, Order, Side, State, Trade, Verdict

log = Log(__name__)

#: time until a trade is looked at again whose row makes no sense
_DAMAGED = timedelta(minutes=1)
#: raises what forbids an order that would bring its user to this
Admit = Callable[[Exposure], object]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The trades of which it is not known yet what becomes of them."""

    trades: int
    oldest: datetime | None


class KeyTaken(PortableError):
    """Another order of the user came with this key just now."""


class Store:
    """Keeps trades. Each method is one transaction, and raises DatabaseUnavailableError.

    What changes a trade is given the trade as it was: if somebody else has changed it since, nothing happens, and None
    is returned.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> datetime:
        """Return the time by which leases run out."""
        return self._clock()

    def receive(self, order: Order, lease: timedelta, admit: Admit, key: str | None = None) -> Trade:
        """Keep a new order, which the caller then has for so long. Raises KeyTaken, and what `admit` raises."""
        now = self._clock()
        row = {
            "trade_id": str(uuid.uuid4()),
            "user_id": order.user_id,
            "symbol": order.symbol,
            "quantity": order.quantity,
            "side": order.side,
            "price": order.price,
            "state": State.RECEIVED,
            "version": 1,
            "seq": 1,
            "key": key,
            "lease_until": now + lease,
            "attempted_at": now,
            "created_at": now,
            "updated_at": now,
        }
        with self._database.write() as connection:
            # The trade first, then the exposure, as in all that moves one: else two of one key may wait for each other.
            if not insert_once(connection, trades, row):
                raise KeyTaken(key)
            admit(reserve(connection, order, now))
            trade = _trade(SimpleNamespace(**row, code=None, detail=None))
            note(connection, trade)
        return trade

    def retry(self, trade: Trade, lease: timedelta, admit: Admit) -> Trade | None:
        """Take an order up again that was refused. Raises what `admit` raises."""
        now = self._clock()
        with self._database.write() as connection:
            moved = self._move(connection, trade, Verdict(State.RECEIVED), lease_until=now + lease, attempted_at=now)
            if moved:
                admit(reserve(connection, trade.order, now))
        return moved

    def move(self, trade: Trade, to: Verdict) -> Trade | None:
        """Move a trade on."""
        with self._database.write() as connection:
            moved = self._move(connection, trade, to)
            if moved:
                follow(connection, moved)
        return moved

    def lease(self, trade: Trade, length: timedelta) -> Trade | None:
        """Have a trade for so long from now; with nothing, leave it to the reconciler."""
        with self._database.write() as connection:
            return _update(connection, trade, version=trade.version + 1, lease_until=self._clock() + length)

    def claim(self, length: timedelta) -> Trade | None:
        """Lease the trade whose lease ran out first. Return None if all have an owner, or none is pending.

        One that is twice as long as `length` is of before the clock was set back: those of hosts differ by less.
        """
        now = self._clock()
        with self._database.read() as connection:  # most often there is none, and a reader waits for nobody
            row = connection.execute(_LEFT, {"now": now}).first()
            row = row or connection.execute(_AHEAD, {"latest": now + 2 * length}).first()
        if row is None:
            return None
        try:
            return self.lease(_trade(row), length)
        except ValueError as error:  # a damaged row
            log.warning("trade %s cannot be settled: %s", row.trade_id, error)
        with self._database.write() as connection:  # the others have their turn
            later = update(trades).where(trades.c.trade_id == row.trade_id)
            connection.execute(later.values(lease_until=now + _DAMAGED))
        return None

    def find(self, trade_id: str) -> Trade | None:
        with self._database.read() as connection:
            return _first(connection, _BY_ID, trade=trade_id)

    def by_key(self, user_id: str, key: str) -> Trade | None:
        with self._database.read() as connection:
            return _first(connection, _BY_KEY, user=user_id, idempotency=key)

    def of_user(self, user_id: str, limit: int, before: tuple[datetime, str] | None = None) -> list[Trade]:
        """Return a user's trades, the newest first, at most so many; those older than a time and trade id."""
        query = select(trades).where(trades.c.user_id == user_id)
        if before:
            last = tuple_(literal(before[0], Instant), literal(before[1]))
            query = query.where(tuple_(trades.c.created_at, trades.c.trade_id) < last)
        newest = query.order_by(trades.c.created_at.desc(), trades.c.trade_id.desc()).limit(limit)
        with self._database.read() as connection:
            return list(_sound(connection.execute(newest)))

    def pending_since(self, moment: datetime, limit: int) -> list[Trade]:
        """Return trades that have been pending since before a moment, at most so many."""
        old = select(trades).where(IS_PENDING, trades.c.attempted_at <= moment).limit(limit)
        with self._database.read() as connection:
            return list(_sound(connection.execute(old)))

    def backlog(self) -> Backlog:
        """Return how many trades are pending, and since when."""
        query = select(func.count(), func.min(trades.c.attempted_at)).where(IS_PENDING)
        with self._database.read() as connection:
            pending, oldest = connection.execute(query).one()
        return Backlog(pending, oldest)

    def health(self) -> dict[str, str]:
        """Return whether the database can be read, as a health check."""
        try:
            self.find("")
        except DatabaseBusyError as error:
            return {"status": "DEGRADED", "reason": str(error)}  # it works, and is at its limit
        except DatabaseUnavailableError as error:
            return {"status": "DOWN", "reason": str(error)}
        return {"status": "UP"}

    def _move(self, connection: Connection, trade: Trade, to: Verdict, **changes: object) -> Trade | None:
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
            note(connection, moved)
        return moved


# Made once: SQLAlchemy takes longer to put a statement together than SQLite to execute it.
_BY_ID = select(trades).where(trades.c.trade_id == bindparam("trade"))
_BY_KEY = select(trades).where(trades.c.user_id == bindparam("user"), trades.c.key == bindparam("idempotency"))
_LEFT = (
    select(trades).where(IS_PENDING, trades.c.lease_until <= bindparam("now")).order_by(trades.c.lease_until).limit(1)
)
_AHEAD = select(trades).where(IS_PENDING, trades.c.lease_until > bindparam("latest")).limit(1)
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
    """Yield the trades of rows; a damaged one is logged, and hides no other."""
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
        state=State(row.state),
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
