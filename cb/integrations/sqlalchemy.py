"""A breaker before the connections of an SQLAlchemy engine.

A call lasts from the request for a connection until its return to the pool: a statement that hangs is a call in flight,
and a bulkhead limits the connections in use. docs/databases.md lists the outcomes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cb import Call, Guard
from cb.extras import needs

with needs("sqlalchemy", "sqlalchemy"):
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

if TYPE_CHECKING:  # SQLAlchemy 1.4 has them under other names
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection, PoolProxiedConnection

__all__ = ["guard_engine"]

_KEY = "cb.integrations.sqlalchemy"  # in the info of a connection record: the uses of the connection


@dataclass(slots=True, eq=False)
class _Use:
    """One use of a connection."""

    call: Call
    connection: object
    error: BaseException | None = None

    def settle(self) -> None:
        """Count the outcome."""
        if self.error is None:
            self.call.succeed()
        else:
            self.call.fail(self.error)


def guard_engine(engine: Engine, guard: Guard) -> None:
    """Admit each request for a connection of an engine through a breaker, a bulkhead or a policy.

    A rejection raises CircuitOpenError or BulkheadFullError from where SQLAlchemy would connect, such as
    `engine.connect()`, without a wait for the pool or the server. A connection that cannot be established, or is lost,
    is a failure; any other error of the server is a success, because the server works. Engines that
    `execution_options` has derived from this one are guarded with it.

    Call it once, before the engine is used.

    Args:
        engine: The engine. Asynchronous engines are not supported.
        guard: Breaker, bulkhead, or policy without retry, cache and fallback.
    """

    def wrap_pool(engine: Engine) -> None:
        # No event occurs before a thread waits for the pool, nor when that wait times out.
        engine.pool.connect = _guarded(engine.pool, guard)  # type: ignore[method-assign]  # for the reason above

    def on_invalidate(_: "DBAPIConnection", record: "ConnectionPoolEntry", error: BaseException | None) -> None:
        for use in _uses(record):
            use.error = error

    def on_checkin(_: "DBAPIConnection | None", record: "ConnectionPoolEntry") -> None:
        end(record, _uses(record))

    def on_detach(connection: "DBAPIConnection", record: "ConnectionPoolEntry") -> None:
        # By now another thread may use the record, with a connection of its own.
        end(record, [use for use in _uses(record) if use.connection is connection])

    def end(record: "ConnectionPoolEntry", ended: list[_Use]) -> None:
        for use in tuple(ended):
            _uses(record).remove(use)
            use.settle()

    wrap_pool(engine)
    event.listen(engine, "engine_disposed", wrap_pool)  # which creates a new pool
    event.listen(engine, "invalidate", on_invalidate)
    event.listen(engine, "checkin", on_checkin)
    event.listen(engine, "detach", on_detach)


def _guarded(pool: Pool, guard: Guard) -> "Callable[[], PoolProxiedConnection]":
    connect = pool.connect

    def guarded() -> "PoolProxiedConnection":
        call = guard.begin()
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
