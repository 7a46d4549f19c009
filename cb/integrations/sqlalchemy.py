"""A breaker before the connections of an SQLAlchemy engine.

A call lasts from the moment a connection is wanted until it is given back: a statement that hangs is in flight, and
with a bulkhead no more connections are in use at once than it lets through. docs/databases.md has what counts as what.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection, Pool, PoolProxiedConnection

from cb.call import Call
from cb.guard import Guard

_CALLS = "cb.integrations.sqlalchemy"  # in the record of a connection: the calls that use it


@dataclass(slots=True, eq=False)
class _Use:
    call: Call
    connection: object
    error: BaseException | None = None


def guard_engine(engine: Engine, breaker: Guard) -> None:
    """Have a breaker or a bulkhead asked whenever a connection of an engine is wanted.

    What it refuses raises CircuitOpenError or BulkheadFullError from where SQLAlchemy would connect, such as
    `engine.connect()`; nobody then waits for the pool, or for a server. A connection that cannot be had or is lost is a
    failure; any error that the server answers is an answer. Engines that `execution_options` has made of this one are
    guarded with it. For engines that are not asynchronous; call it once, before the engine is used.
    """

    def put_before(engine: Engine) -> None:
        # No event comes before a thread waits for the pool, nor when it has waited in vain.
        engine.pool.connect = _guarded(engine.pool, breaker)  # type: ignore[method-assign]  # said above

    def lost(_: DBAPIConnection, record: ConnectionPoolEntry, error: BaseException | None) -> None:
        for call in _calls(record):
            call.error = error

    def given_back(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        end(record, _calls(record))

    def detached(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # By now another thread may have the record, with a connection of its own.
        end(record, [call for call in _calls(record) if call.connection is connection])

    def end(record: ConnectionPoolEntry, ended: list[_Use]) -> None:
        for call in tuple(ended):
            _calls(record).remove(call)
            if call.error is None:
                call.call.succeed()
            else:
                call.call.fail(call.error)

    put_before(engine)
    event.listen(engine, "engine_disposed", put_before)  # it has a new pool then
    event.listen(engine, "invalidate", lost)
    event.listen(engine, "checkin", given_back)
    event.listen(engine, "detach", detached)


def _guarded(pool: Pool, breaker: Guard) -> Callable[[], PoolProxiedConnection]:
    connect = pool.connect

    def guarded() -> PoolProxiedConnection:
        call = breaker.begin()
        try:
            connection = connect()
        except BaseException as error:
            call.fail(error)
            raise
        _calls(connection).append(_Use(call, connection.dbapi_connection))
        return connection

    return guarded


def _calls(connection: ManagesConnection) -> list[_Use]:
    """Return the calls that use a connection: more than one where its pool has one for each thread."""
    info = connection.record_info
    assert info is not None  # only a detached connection has none
    calls: list[_Use] = info.setdefault(_CALLS, [])
    return calls
