"""A service's database: durable, one writer at a time, exact numbers."""

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

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

_UNITS = 10_000  # money is kept in whole units of 1/10000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PATIENCE_MS = 5_000  # wait for another writer
#: a transaction waits so long in any case, in seconds: what is known by then should be stored
_SHORTEST_WAIT = 0.25
#: after which PostgreSQL ends a transaction whose process says nothing: others wait for what it has locked. So long its
#: answers are waited for, too
_SILENCE_MS = 2 * _PATIENCE_MS
#: seconds in which PostgreSQL may tell that a wait for another transaction was too long
_GRACE = 0.5
#: seconds until a writer looks whether one before it was cut off without a word
_LOOK = 0.1
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON")


_wait_left: ContextVar[Callable[[], float] | None] = ContextVar("database_wait_left", default=None)


@contextmanager
def limit_waits(left: Callable[[], float]) -> Iterator[None]:
    """Limit the waits for the database in the block, in this thread; `left` returns the seconds that remain.

    Other transactions are waited for as long as that, at most 5 s and at least a quarter of a second. An answer of
    PostgreSQL is waited for half a second longer, and without `limit_waits` 10 s.
    """
    token = _wait_left.set(left)
    try:
        yield
    finally:
        _wait_left.reset(token)


def _wait_seconds() -> float:
    left, longest = _wait_left.get(), _PATIENCE_MS / 1000
    return longest if left is None else min(max(left(), _SHORTEST_WAIT), longest)


def _answer_seconds() -> float:
    left = _wait_left.get()
    return _SILENCE_MS / 1000 if left is None else max(left(), _SHORTEST_WAIT) + _GRACE


class DatabaseUnavailableError(PortableError):
    """The database is locked, full or gone. Nothing of the transaction was kept, unless its commit was under way."""


class DatabaseBusyError(DatabaseUnavailableError):
    """As many transactions run as may. This one was not begun."""


class Database:
    """Transactions on SQLite or PostgreSQL, by URL. Holds no open connection until the first transaction."""

    def __init__(self, url: str, connections: int = 20) -> None:
        file = url.removeprefix("sqlite:///")
        if not (file != url and file) and not url.startswith("postgresql+psycopg://"):
            raise ConfigError("database", "be sqlite:///FILE or postgresql+psycopg://...", url.rpartition("@")[2])
        if file != url:
            _create_file(Path(file))
        whole = make_url(url)
        if file == url:
            # A server that is frozen accepts connections, and says no more.
            whole = whole.update_query_dict({"connect_timeout": str(_PATIENCE_MS // 1000), **whole.query})
        self._engine = create_engine(whole, pool_size=connections, max_overflow=0, pool_timeout=_PATIENCE_MS / 1000)
        (_prepare_postgresql if file == url else _prepare_sqlite)(self._engine)
        self._reader = self._engine.execution_options(reads_only=True)
        # SQLite has those who wait for another writer sleep and try again, for longer each time; so the threads of a
        # process wait for each other here, and only one of them for other processes.
        self._writers = Semaphore(Permit) if file != url else None
        self._breaker: str | None = None
        self._inherited: list[object] = []
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Start over in a forked child, without the parent's connections. They are kept: closing would hurt it."""
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
        """Close the connections that nobody uses. The next transaction opens a new one."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a transaction that commits at the end of the block. Raises DatabaseUnavailableError."""
        detect_fork()
        with self._passing(), self._turn(), self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a transaction that waits for no writer. Raises DatabaseUnavailableError."""
        detect_fork()
        with self._passing(), self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _passing(self) -> Iterator[None]:
        """Keep no connection in a process whose children could not be told that it is not theirs."""
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
            raise  # a rule of ours was broken: an error of the program
        except (DBAPIError, NoConnection) as error:
            raise DatabaseUnavailableError(type(error).__name__) from error
        except (CircuitOpenError, BulkheadFullError) as error:
            if error.name != self._breaker:
                raise
            kind = DatabaseBusyError if isinstance(error, BulkheadFullError) else DatabaseUnavailableError
            raise kind(str(error)) from error


def _wait_for(writers: Semaphore) -> Permit:
    deadline = monotonic() + _wait_seconds()  # else the last of many waits as long as all together
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
    """Insert a row. Return False, and change nothing, if its key is there already."""
    return connection.execute(_insert_once(connection.dialect.name, table), row).first() is not None


@cache
def _insert_once(dialect: str, table: Table) -> Any:
    # RETURNING, because the row count of this statement is -1 with psycopg.
    made = (postgresql if dialect == "postgresql" else sqlite).insert(table).on_conflict_do_nothing()
    return made.returning(next(iter(table.primary_key.columns)))


def stored_bytes(connection: Connection, column: Column[Any]) -> ColumnElement[bytes]:
    """Ask for a value as the bytes of its text: SQLite keeps anything in a column, and a driver fails on some of it."""
    if connection.dialect.name == "postgresql":
        return func.textsend(cast(column, Text), type_=LargeBinary).label(column.name)
    return cast(column, LargeBinary).label(column.name)


def stored_text(stored: bytes) -> str:
    """Return the text of what `stored_bytes` has found; different bytes are different texts."""
    return stored.decode(errors="surrogateescape")


def stored_amount(text: str) -> Decimal:
    """Return the amount of `Money` that a text of `stored_text` stands for. Raises ValueError."""
    return Decimal(int(text)) / _UNITS


class Money(TypeDecorator[Decimal]):
    """An exact amount, kept as an integer of 1/10000."""

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
    """A moment in UTC, kept as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: object) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, _: object) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives its other files the same mode


def _prepare_postgresql(engine: Engine) -> None:
    from .postgresql import LimitedConnection  # with SQLite there need be no psycopg

    class Limited(LimitedConnection):
        answer_seconds = staticmethod(_answer_seconds)

    @event.listens_for(engine, "do_connect")
    def do_connect(_: object, __: object, cargs: Any, cparams: dict[str, Any]) -> Any:
        if (wait := _wait_seconds()) < _PATIENCE_MS / 1000:
            cparams = {**cparams, "connect_timeout": math.ceil(wait)}  # psycopg makes 2 s of 1
        return Limited.connect(*cargs, **cparams)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        # A process that is stopped keeps its locks. Without these, who wants one waits until it goes on or is killed.
        connection.execute(f"SET lock_timeout = {_PATIENCE_MS}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {_SILENCE_MS}")
        connection.commit()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        wait = round(_wait_seconds() * 1000)
        if wait < _PATIENCE_MS:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait}")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # or the driver begins transactions of its own, too late
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
    """Begin as a writer. One that begins as a reader cannot wait for another: its snapshot is too old afterwards.

    SQLite sleeps up to 100 ms between two tries, here it is about a millisecond.
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
            time.sleep(_chance.uniform(0.0005, 0.0015))  # that two do not meet again and again
    finally:
        driver.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")


def _switch_to_wal(connection: Any) -> None:
    """Make the file's journal a write-ahead log. Alone of all statements, this one does not wait for its like."""
    deadline = monotonic() + _wait_seconds()
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            time.sleep(0.005)
