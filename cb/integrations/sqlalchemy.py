"""A breaker before the connections of an SQLAlchemy engine, synchronous or asynchronous.

A call lasts from the request for a connection until its return to the pool: a statement that hangs is a call in flight,
and a bulkhead limits the connections in use. docs/integrations/sqlalchemy.md lists the outcomes.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cb import Call, ConfigError, Guard
from cb.extras import needs
from cb.guard import begin_async

with needs("sqlalchemy", "sqlalchemy"):
    from sqlalchemy import event, util
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

if TYPE_CHECKING:  # SQLAlchemy 1.4 has them under other names
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection, PoolProxiedConnection

__all__ = ["guard_engine"]

#: awaits within the greenlet in which an asynchronous engine works; SQLAlchemy before 2.1 has only the second name
_await: "Callable[[Awaitable[Call]], Call]" = getattr(util, "await_", None) or util.await_only
_KEY = "cb.integrations.sqlalchemy"  # in the info of a connection record: the uses of the connection


class Asynchronous(Protocol):
    """An `AsyncEngine`, whose module is not imported: it needs greenlet."""

    @property
    def sync_engine(self) -> Engine:
        """The engine that it works with."""


@dataclass(slots=True, eq=False)
class _Use:
    """One use of a connection."""

    call: Call
    connection: object
    error: BaseException | None = None
    interrupted: bool = False

    def end(self, error: BaseException | None) -> None:
        """End the use without the connection. It may take a while until the driver gives that back."""
        self.error = error
        if error is not None and not isinstance(error, Exception) and not self.interrupted:
            self.interrupted = True
            self.call.pause()  # which the caller did not wait for, and an early interruption is no outcome

    def settle(self) -> None:
        """Count the outcome."""
        if self.interrupted:
            self.call.resume()
        if self.error is None:
            self.call.succeed()
        else:
            self.call.fail(self.error)


def guard_engine(engine: Engine | Asynchronous, guard: Guard) -> None:
    """Admit each request for a connection of an engine through a breaker, a bulkhead or a policy.

    A rejection raises CircuitOpenError or BulkheadFullError from where SQLAlchemy would connect, such as
    `engine.connect()`, without a wait for the pool or the server. A connection that cannot be established, or is lost,
    is a failure; any other error of the server is a success, because the server works. Engines that
    `execution_options` has derived from this one are guarded with it.

    Call it before the engine is used. The same guard again changes nothing.

    Args:
        engine: The `Engine` or `AsyncEngine`. Tasks of the latter wait for a permit without holding their loop.
        guard: Breaker, bulkhead, or policy without retry, cache and fallback.

    Raises:
        TypeError: `engine` is none.
        ConfigError: The engine has another guard, or `guard` is none.
    """
    given: Any = engine
    sync_engine: Engine = getattr(given, "sync_engine", given)
    if not isinstance(sync_engine, Engine):
        raise TypeError(f"{engine!r} is no Engine or AsyncEngine of SQLAlchemy")
    if not callable(getattr(guard, "begin", None)):
        raise ConfigError("guard", "be a CircuitBreaker, a Bulkhead or a Policy", guard)
    present = getattr(sync_engine.pool.connect, "guard", None)
    if present is guard:
        return
    if present is not None:
        raise ConfigError("engine", f"have one guard, and {present!r} guards it", engine)
    begin = guard.begin if sync_engine is engine else lambda: _await(begin_async(guard))

    def wrap_pool(engine: Engine) -> None:
        # No event occurs before a thread waits for the pool, nor when that wait times out.
        connect = _guarded(engine.pool, begin)
        connect.guard = guard  # type: ignore[attr-defined]  # an attribute of a function
        engine.pool.connect = connect  # type: ignore[method-assign]  # for the reason above

    def on_invalidate(_: "DBAPIConnection", record: "ConnectionPoolEntry", error: BaseException | None) -> None:
        for use in _uses(record):
            use.end(error)

    def on_checkin(_: "DBAPIConnection | None", record: "ConnectionPoolEntry") -> None:
        end(record, _uses(record))

    def on_detach(connection: "DBAPIConnection", record: "ConnectionPoolEntry") -> None:
        # By now another thread may use the record, with a connection of its own.
        end(record, [use for use in _uses(record) if use.connection is connection])

    def end(record: "ConnectionPoolEntry", ended: list[_Use]) -> None:
        for use in tuple(ended):
            _uses(record).remove(use)
            use.settle()

    wrap_pool(sync_engine)
    event.listen(sync_engine, "engine_disposed", wrap_pool)  # which creates a new pool
    event.listen(sync_engine, "invalidate", on_invalidate)
    event.listen(sync_engine, "checkin", on_checkin)
    event.listen(sync_engine, "detach", on_detach)


def _guarded(pool: Pool, begin: Callable[[], Call]) -> "Callable[[], PoolProxiedConnection]":
    connect = pool.connect

    def guarded() -> "PoolProxiedConnection":
        call = begin()
        try:
            connection = connect()
        except BaseException as error:
            call.fail(error)
            raise
        # SQLAlchemy before 1.4.24 has only the second name.
        driver = getattr(connection, "dbapi_connection", None) or connection.connection
        _uses(connection).append(_Use(call, driver))
        return connection

    return guarded


def _uses(connection: "ManagesConnection") -> list[_Use]:
    """Return the uses of a connection: more than one in a pool with one connection per thread."""
    info = connection.record_info
    assert info is not None  # only a detached connection has none
    uses: list[_Use] = info.setdefault(_KEY, [])
    return uses
