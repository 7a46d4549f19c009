"""The database of a service: durable transactions, one writer at a time on SQLite, exact numbers."""

import math
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Table,
    Text,
    TypeDecorator,
    cast,
    create_engine,
    event,
    func,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from cb.background.fork import detect_fork, forks_in_c, register_fork_reset
from cb.breaker import CircuitBreaker
from cb.bulkhead import Bulkhead
from cb.clocks import monotonic
from cb.errors import BulkheadFullError, CircuitOpenError, ConfigError
from cb.integrations.sqlalchemy import guard_engine
from cb.ledger.semaphore import Permit, Semaphore
from cb.pickling import PortableError

from .settings import Settings
from .settings_file import SettingsError

# Not the generator of `random` itself: a program may have seeded it.
_chance = random.SystemRandom()

_UNITS = 10_000  # money is stored in units of 1/10000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCK_TIMEOUT_MS = 5_000  # wait for another writer
#: seconds that a transaction waits at least, so that known results are stored
_SHORTEST_WAIT = 0.25
#: idle time after which PostgreSQL ends a transaction, because others wait for its locks; also the timeout of responses
_IDLE_TIMEOUT_MS = 2 * _LOCK_TIMEOUT_MS
#: seconds for PostgreSQL to report a lock timeout
_GRACE = 0.5
#: seconds after which a writer checks if an earlier one has disappeared without a notification
_LOOK = 0.1
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON")


_wait_left: ContextVar[Callable[[], float] | None] = ContextVar("database_wait_left", default=None)


@contextmanager
def limit_waits(left: Callable[[], float]) -> Iterator[None]:
    """Limit the waits for the database in the block, in this thread; `left` returns the remaining seconds.

    A wait for other transactions takes at most that time, bounded to 0.25 s at least and 5 s at most. A response of
    PostgreSQL may take half a second longer; without `limit_waits` it may take 10 s.
    """
    token = _wait_left.set(left)
    try:
        yield
    finally:
        _wait_left.reset(token)


def _wait_seconds() -> float:
    left, longest = _wait_left.get(), _LOCK_TIMEOUT_MS / 1000
    return longest if left is None else min(max(left(), _SHORTEST_WAIT), longest)


def _answer_seconds() -> float:
    left = _wait_left.get()
    return _IDLE_TIMEOUT_MS / 1000 if left is None else max(left(), _SHORTEST_WAIT) + _GRACE


class DatabaseUnavailableError(PortableError):
    """The database is locked, full or unreachable. The transaction was rolled back, unless it was committing."""


class DatabaseBusyError(DatabaseUnavailableError):
    """The limit of concurrent transactions is reached. This one was not started."""


class Database:
    """Transactions on SQLite or PostgreSQL. No connection is opened before the first transaction.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://...`.
        connections: Largest number of connections.
    """

    def __init__(self, url: str, connections: int = 20) -> None:
        file = url.removeprefix("sqlite:///")
        if not (file != url and file) and not url.startswith("postgresql+psycopg://"):
            raise ConfigError("database", "be sqlite:///FILE or postgresql+psycopg://...", url.rpartition("@")[2])
        if file != url:
            _create_file(Path(file))
        whole = make_url(url)
        if file == url:
            # A frozen server accepts connections and never responds.
            whole = whole.update_query_dict({"connect_timeout": str(_LOCK_TIMEOUT_MS // 1000), **whole.query})
        self._engine = create_engine(whole, pool_size=connections, max_overflow=0, pool_timeout=_LOCK_TIMEOUT_MS / 1000)
        (_prepare_postgresql if file == url else _prepare_sqlite)(self._engine)
        self._reader = self._engine.execution_options(reads_only=True)
        # SQLite lets a waiting writer sleep and retry, with growing intervals; so the threads of a process wait for
        # each other here, and only one of them waits for other processes.
        self._writers = Semaphore(Permit) if file != url else None
        self._breaker: str | None = None
        self._inherited: list[object] = []
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Reset in a forked child. The parent's connections stay open: closing them would break the parent."""
        self._inherited.append(self._engine.pool)
        self._engine.dispose(close=False)
        if self._writers:
            self._writers.reset_after_fork()

    def guard(self, breaker: CircuitBreaker | Bulkhead) -> None:
        """Guard each further transaction by a breaker or a bulkhead. Call it once tables exist, and before a fork.

        Rejections raise DatabaseUnavailableError or DatabaseBusyError, so that callers do not depend on the breaker and
        do not mistake its rejection for that of another one.
        """
        guard_engine(self._engine, breaker)
        self._breaker = breaker.name

    def close(self) -> None:
        """Close the idle connections. The next transaction opens a new one."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a transaction that commits at the end of the block. Raises DatabaseUnavailableError."""
        detect_fork()
        with self._passing(), self._turn(), self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a transaction that does not wait for writers. Raises DatabaseUnavailableError."""
        detect_fork()
        with self._passing(), self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _passing(self) -> Iterator[None]:
        """Close the connections after each transaction if children could inherit them unnoticed."""
        try:
            yield
        finally:
            if forks_in_c():
                self.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._writers is None:
            yield
            return
        slot = self._writers.take(1) if not self._writers.has_waiters else None
        slot = slot or _wait_for(self._writers)
        try:
            yield
        finally:
            self._writers.give_back(slot)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # a constraint of the schema was violated: an error of the program
        except (DBAPIError, NoConnection) as error:
            raise DatabaseUnavailableError(type(error).__name__) from error
        except (CircuitOpenError, BulkheadFullError) as error:
            if error.name != self._breaker:
                raise
            kind = DatabaseBusyError if isinstance(error, BulkheadFullError) else DatabaseUnavailableError
            raise kind(str(error)) from error


def _wait_for(writers: Semaphore) -> Permit:
    deadline = monotonic() + _wait_seconds()  # one for all attempts: each of many writers waits at most this long
    with writers.wait_in_queue() as wait:
        while (left := deadline - monotonic()) > 0:
            if wait(min(_LOOK, left)) and (slot := writers.take(1)):
                return slot
    raise DatabaseUnavailableError("other writers of this process wait too long")


@contextmanager
def opening_database(settings: Settings) -> Iterator[None]:
    """Report an error of opening a database as an error of the setting that names it. Raises SettingsError."""

    def violation(rule: str) -> SettingsError:
        key = f"services.{settings.name}.database"
        return SettingsError(settings.file, key, rule, settings.service["database"])

    try:
        yield
    except ModuleNotFoundError as error:
        raise violation(f"be of a kind whose driver is installed: pip install '{error.name}[binary]'") from error
    except (OSError, DatabaseUnavailableError) as error:
        raise violation(f"be a database that can be opened ({error})") from error


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row. Return False, without a change, if its key exists."""
    return connection.execute(_insert_once(connection.dialect.name, table), row).first() is not None


@cache
def _insert_once(dialect: str, table: Table) -> Any:
    # RETURNING, because the row count of this statement is -1 with psycopg.
    made = (postgresql if dialect == "postgresql" else sqlite).insert(table).on_conflict_do_nothing()
    return made.returning(next(iter(table.primary_key.columns)))


def stored_bytes(connection: Connection, column: Column[Any]) -> ColumnElement[bytes]:
    """Select a value as the bytes of its text: SQLite stores anything in a column, and drivers fail on some values."""
    if connection.dialect.name == "postgresql":
        return func.textsend(cast(column, Text), type_=LargeBinary).label(column.name)
    return cast(column, LargeBinary).label(column.name)


def stored_text(stored: bytes) -> str:
    """Return the text of a value of `stored_bytes`; different bytes give different texts."""
    return stored.decode(errors="surrogateescape")


def stored_amount(text: str) -> Decimal:
    """Return the amount of a `Money` column from its `stored_text`. Raises ValueError."""
    return Decimal(int(text)) / _UNITS


class Money(TypeDecorator[Decimal]):
    """An exact amount, stored as an integer of 1/10000."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, _: object) -> int | None:
        if value is None:
            return None
        units = value * _UNITS
        if units != int(units):
            raise ValueError(f"{value} has more than four decimals")
        return int(units)

    def process_result_value(self, value: int | None, _: object) -> Decimal | None:
        return None if value is None else Decimal(value) / _UNITS


class Instant(TypeDecorator[datetime]):
    """A time in UTC, stored as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: object) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, _: object) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite uses the same mode for its other files


def _prepare_postgresql(engine: Engine) -> None:
    from .postgresql import LimitedConnection  # SQLite does not need psycopg

    class Limited(LimitedConnection):
        answer_seconds = staticmethod(_answer_seconds)

    @event.listens_for(engine, "do_connect")
    def do_connect(_: object, __: object, cargs: Any, cparams: dict[str, Any]) -> Any:
        if (wait := _wait_seconds()) < _LOCK_TIMEOUT_MS / 1000:
            cparams = {**cparams, "connect_timeout": math.ceil(wait)}  # psycopg replaces 1 s by 2 s
        return Limited.connect(*cargs, **cparams)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        # A stopped process keeps its locks. Without these timeouts, others wait until it continues or is killed.
        connection.execute(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS}")
        connection.commit()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        wait = round(_wait_seconds() * 1000)
        if wait < _LOCK_TIMEOUT_MS:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait}")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # otherwise the driver begins transactions itself, too late
        connection.execute(f"PRAGMA busy_timeout={round(_wait_seconds() * 1000)}")
        _switch_to_wal(connection)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("reads_only"):
            driver: Any = connection.connection
            driver.execute(f"PRAGMA busy_timeout={round(_wait_seconds() * 1000)}")
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_writing(connection)


def _begin_writing(connection: Connection) -> None:
    """Begin a transaction as a writer. A reader cannot become one after a wait: its snapshot would be too old.

    SQLite sleeps up to 100 ms between two attempts; here it is about a millisecond.
    """
    driver: Any = connection.connection
    deadline = monotonic() + _wait_seconds()
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                busy = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
                if not busy or monotonic() > deadline:
                    raise
            time.sleep(_chance.uniform(0.0005, 0.0015))  # random, so that two writers do not collide repeatedly
    finally:
        driver.execute(f"PRAGMA busy_timeout={_LOCK_TIMEOUT_MS}")


def _switch_to_wal(connection: Any) -> None:
    """Set the journal mode to WAL. Unlike other statements, this one does not wait for a concurrent one."""
    deadline = monotonic() + _wait_seconds()
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            time.sleep(0.005)
