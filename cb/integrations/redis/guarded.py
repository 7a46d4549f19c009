"""Guarded variants of the classes of redis-py.

A guarded object gets a class derived from its own, in which the methods that talk to the server go through its guard.
It remains an instance of its class, and nothing refers to it: it is collected as before.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Self, TypeAlias

import redis.asyncio
import redis.asyncio.cluster
import redis.cluster

from cb import Call, Guard, RejectedError
from cb.guard import begin_async

from .outcomes import is_failure, is_read_timeout, settle, settle_results, wait_of, wait_of_pipeline

ClientKind: TypeAlias = (
    redis.Redis | redis.asyncio.Redis | redis.cluster.RedisCluster | redis.asyncio.cluster.RedisCluster
)

#: attributes: of a guarded object, its guard; of a guarded class, the class that it is derived from
GUARD, _PLAIN = "_cb_guard", "_cb_plain"
#: classes of pipelines, which are derived from those of clients, and of subscriptions
PIPELINES = (
    redis.client.Pipeline,
    redis.asyncio.client.Pipeline,
    redis.cluster.ClusterPipeline,
    redis.asyncio.cluster.ClusterPipeline,
)
_SUBSCRIPTIONS = (redis.client.PubSub, redis.asyncio.client.PubSub)
# Restored by a built-in function in a `finally`, before which no signal comes; without a token, because a coroutine may
# be closed in another context.
#: the guard of the call that runs: redis-py calls the methods below of one another
_inside: ContextVar[Guard | None] = ContextVar("cb.integrations.redis", default=None)
#: guarded classes, by the class that they are derived from
_guarded: dict[type, type] = {}


class _Running:
    """The block of one call.

    Args:
        call: The call.
        early: None for a command that the server answers at once. For one that waits there, such as BLPOP: True if the
            socket's timeout ends before the server's.
    """

    __slots__ = ("_call", "_early", "result")

    def __init__(self, call: Call, early: bool | None = None) -> None:
        self._call, self._early = call, early
        #: result of the block
        self.result: Any = None

    def __enter__(self) -> Self:
        self._call.enclose()
        if self._early is not None:
            self._call.pause(answered=False)  # the time that the server was asked to wait is not its latency
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._early is not None:
            self._call.resume()
        if error is None:
            settle_results(self._call, self.result)
        elif self._early and is_read_timeout(error):
            self._call.discard()
        else:
            settle(self._call, error)


def _run(
    guard: Guard, work: Callable[[], Any], early: bool | None = None, ping: Callable[[], Any] | None = None
) -> Any:
    """Return work(), as a call. The probe of a command that waits is a PING before it."""
    outer = _inside.get()
    if outer is guard:
        return work()
    call = guard.begin()
    if early is not None and ping and call.probe:
        with _Running(call):
            try:
                _inside.set(guard)
                ping()
            finally:
                _inside.set(outer)
        return _watch(guard, work, early=early)
    with _Running(call, early) as running:
        try:
            _inside.set(guard)
            running.result = work()
        finally:
            _inside.set(outer)
    return running.result


async def _run_async(
    guard: Guard,
    work: Callable[[], Awaitable[Any]],
    early: bool | None = None,
    ping: Callable[[], Awaitable[Any]] | None = None,
) -> Any:
    outer = _inside.get()
    if outer is guard:
        return await work()
    call = await begin_async(guard)
    if early is not None and ping and call.probe:
        with _Running(call):
            try:
                _inside.set(guard)
                await ping()
            finally:
                _inside.set(outer)
        return await _watch_async(guard, work, early=early)
    with _Running(call, early) as running:
        try:
            _inside.set(guard)
            running.result = await work()
        finally:
            _inside.set(outer)
    return running.result


def _watch(guard: Guard, work: Callable[[], Any], *, early: bool) -> Any:
    """Return work(), which is no call, since it may wait for ever. A lost server is a failure."""
    try:
        return work()
    except Exception as error:
        if is_failure(error) and not (early and is_read_timeout(error)) and _inside.get() is not guard:
            with suppress(RejectedError):
                guard.begin().fail(error)
        raise


async def _watch_async(guard: Guard, work: Callable[[], Awaitable[Any]], *, early: bool) -> Any:
    try:
        return await work()
    except Exception as error:
        if is_failure(error) and not (early and is_read_timeout(error)) and _inside.get() is not guard:
            with suppress(RejectedError):
                (await begin_async(guard)).fail(error)
        raise


def _is_early(client: Any, wait: float | None) -> bool | None:
    """Return the argument `early` of a call, for the seconds that the server is asked to wait."""
    if wait is None:
        return None
    options: dict[str, Any] = getattr(client, "get_connection_kwargs", dict)()
    return wait >= (options.get("socket_timeout") or 0)


def _connected(connection: Any) -> bool:
    """Return True if a connection of a subscription, which may have none yet, is established."""
    if connection is None:
        return False
    # Synchronous connections of redis-py before 6 have only the second name.
    established = getattr(connection, "is_connected", None)
    return getattr(connection, "_sock", None) is not None if established is None else bool(established)


# Variants of methods. Each is looked up in its class when it is called: an instrumentation may replace it meanwhile.


def _command(kind: type, name: str, *, is_async: bool) -> Callable[..., Any]:
    run = _run_async if is_async else _run

    def command(self: Any, *args: Any, **options: Any) -> Any:
        method = partial(getattr(kind, name), self)
        early = _is_early(self, wait_of(args))
        return run(vars(self)[GUARD], partial(method, *args, **options), early, partial(method, "PING"))

    return command


def _initialize(kind: type, name: str, **_: bool) -> Callable[..., Any]:
    """Guard what connects an asynchronous client in advance: that of a cluster, or one with a single connection."""

    async def initialize(self: Any, *args: Any, **options: Any) -> Any:
        work = partial(getattr(kind, name), self, *args, **options)
        alone = getattr(self, "single_connection_client", False) and not self.connection
        connects = getattr(self, "_initialize", alone)  # the first one is of clusters
        return await (_run_async(vars(self)[GUARD], work) if connects else work())

    return initialize


def _execute(kind: type, name: str, *, is_async: bool) -> Callable[..., Any]:
    run = _run_async if is_async else _run

    def execute(self: Any, *args: Any, **options: Any) -> Any:
        work = partial(getattr(kind, name), self, *args, **options)
        if not len(self) and not getattr(self, "watching", False):
            return work()  # which sends nothing
        return run(vars(self)[GUARD], work, _is_early(self, wait_of_pipeline(self)))

    return execute


def _subscribe(kind: type, name: str, *, is_async: bool) -> Callable[..., Any]:
    """Guard what a subscription sends: a call if it connects. The server responds when messages are read."""
    run, watch = (_run_async, _watch_async) if is_async else (_run, _watch)

    def subscribe(self: Any, *args: Any, **options: Any) -> Any:
        work = partial(getattr(kind, name), self, *args, **options)
        guard = vars(self)[GUARD]
        return watch(guard, work, early=False) if _connected(self.connection) else run(guard, work)

    return subscribe


def _read(kind: type, name: str, *, is_async: bool) -> Callable[..., Any]:
    """Guard the reading of messages: a lost connection is a failure, and connecting again is a call."""

    def read(self: Any, *args: Any, **options: Any) -> Any:
        guard, connection = vars(self)[GUARD], self.connection
        if connection is not None and not _connected(connection):
            _run(guard, connection.connect)
        return _watch(guard, partial(getattr(kind, name), self, *args, **options), early=True)

    async def read_async(self: Any, *args: Any, **options: Any) -> Any:
        guard, connection = vars(self)[GUARD], self.connection
        if connection is not None and not _connected(connection):
            await _run_async(guard, connection.connect)
        return await _watch_async(guard, partial(getattr(kind, name), self, *args, **options), early=True)

    return read_async if is_async else read


def _make(kind: type, name: str, *, is_async: bool) -> Callable[..., Any]:
    """Guard what a client makes, as the client is."""

    def make(self: Any, *args: Any, **options: Any) -> Any:
        guard = vars(self)[GUARD]
        work = partial(getattr(kind, name), self, *args, **options)
        # A synchronous client with a connection of its own connects when it is made.
        made = work() if is_async or name != "client" else _run(guard, work)
        put_guard(made, guard)
        return made

    return make


_Variant: TypeAlias = Callable[..., Callable[..., Any]]
_CLIENT: dict[str, _Variant] = {
    "execute_command": _command,
    "initialize": _initialize,
    **dict.fromkeys(("client", "ft", "json", "pipeline", "pubsub", "ts"), _make),
}
_PIPELINE: dict[str, _Variant] = {"execute": _execute, "immediate_execute_command": _command}
_SUBSCRIPTION: dict[str, _Variant] = {"execute_command": _subscribe, "connect": _subscribe, "parse_response": _read}
_MODULE: dict[str, _Variant] = {"pipeline": _make}  # what `client.json()` and its like return


def put_guard(target: Any, guard: Guard) -> None:
    """Guard an object of redis-py."""
    kind = type(target)
    vars(target)[GUARD] = guard
    if not hasattr(kind, _PLAIN):
        target.__class__ = _guarded.get(kind) or _guarded.setdefault(kind, _derived(kind))


def remove_guard(target: Any) -> None:
    """Remove the guard of an object, if it has one."""
    target.__class__ = getattr(type(target), _PLAIN, type(target))
    vars(target).pop(GUARD, None)


def _derived(kind: type) -> type:
    if issubclass(kind, PIPELINES):
        variants = _PIPELINE
    elif issubclass(kind, _SUBSCRIPTIONS):
        variants = _SUBSCRIPTION
    else:
        variants = _CLIENT if hasattr(kind, "execute_command") else _MODULE
    is_async = any(base.__module__.startswith("redis.asyncio") for base in kind.__mro__)
    body: dict[str, Any] = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    for name, variant in variants.items():
        if method := getattr(kind, name, None):
            body[name] = wraps(method)(variant(kind, name, is_async=is_async))
    return type(kind)(kind.__name__, (kind,), {**body, _PLAIN: kind})
