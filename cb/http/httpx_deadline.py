"""A deadline for a whole request of httpx: connecting, sending, headers and body together.

The timeouts of httpx count from one packet to the next. They pass through httpcore to the streams of its network
backend: there, a `TimeLimit` in their place is shortened to the time left until the deadline of its request.
"""

import socket
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

from cb.clocks import monotonic
from cb.pickling import PortableError

from .exchange import Exchange
from .timeouts import ATTEMPT_SECONDS, Deadline

#: bytes per write of a thread; the deadline is checked before each
_CHUNK_BYTES = 16_384
_KINDS = ("connect", "read", "write", "pool")
#: depth at which transports within transports are searched
_DEPTH = 4


class ConnectDeadlineError(PortableError, httpcore.TimeoutException):
    """No time is left to connect. It is no ConnectTimeout, which httpcore would repeat the attempt for."""


class TimeLimit(float):
    """A timeout of httpx that ends with the deadline of its request. Its value is the seconds at the start.

    `limited` creates it.
    """

    __slots__ = ("deadline", "own")
    #: the timeout itself, in seconds; None for no limit
    own: float | None
    #: the deadline. Not the exchange: a pool keeps a request whose response was collected unread
    deadline: Deadline

    def left(self, kind: type[Exception]) -> float:
        """Return the seconds that a wait may take now. Raises an exception of a kind after the deadline."""
        left = (self.deadline.at or 0.0) - monotonic()
        if left <= 0:
            raise kind("the request has exceeded its deadline")
        return left if left < self else self  # noqa: FURB136 - quicker than a call


#: limit of the connection attempt that runs here
_attempt: ContextVar[TimeLimit | None] = ContextVar("cb.http.attempt", default=None)


def limited(timeouts: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    """Return the timeouts of a request with a deadline."""
    if len(timeouts) == len(_KINDS):
        connect, read, write, pool = timeouts.values()
        if connect == read == write == pool:
            limit = _limit(read, exchange)
            return {"connect": limit, "read": limit, "write": limit, "pool": limit}
    return {kind: _limit(timeouts.get(kind), exchange) for kind in _KINDS}


def _limit(own: float | None, exchange: Exchange) -> TimeLimit:
    total = exchange.limit
    limit = float.__new__(TimeLimit, own if own is not None and (total is None or own <= total) else total or 0.0)
    limit.own, limit.deadline = own, exchange.deadline
    return limit


def _left(limit: float | None, kind: type[Exception]) -> float | None:
    return limit.left(kind) if type(limit) is TimeLimit else limit


class _Waits:
    """The time limits of a stream.

    Args:
        stream: The stream of the backend.
        connecting: Limit of the connection attempt, for a handshake that httpcore does without a timeout (SOCKS).
    """

    def __init__(self, stream: Any, connecting: TimeLimit | None) -> None:
        self._stream = stream
        self._connecting = connecting
        #: returns a fact about the stream
        self.get_extra_info = stream.get_extra_info  # not a method: a pool asks for each request

    def _left(self, limit: float | None, kind: type[Exception]) -> float | None:
        if type(limit) is TimeLimit:
            self._connecting = None
            return limit.left(kind)
        return _left(self._connecting, ConnectDeadlineError) if limit is None else limit


class _Stream(_Waits, httpcore.NetworkStream):
    """A stream whose reads and writes end at the deadline of their request."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if type(timeout) is TimeLimit:  # as in `_left`, for each read
            self._connecting = None
            return self._stream.read(max_bytes, timeout.left(httpcore.ReadTimeout))  # type: ignore[no-any-return]  # of any backend
        return self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))  # type: ignore[no-any-return]  # of any backend

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:  # after the headers of a request without a body
            return
        if len(buffer) <= _CHUNK_BYTES:
            if type(timeout) is TimeLimit:
                timeout = timeout.left(httpcore.WriteTimeout)
            self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout) if timeout is None else timeout)
            return
        for begin in range(0, len(buffer), _CHUNK_BYTES):
            left = self._left(timeout, httpcore.WriteTimeout)
            self._stream.write(buffer[begin : begin + _CHUNK_BYTES], left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, ConnectDeadlineError)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._connecting)


class _AsyncStream(_Waits, httpcore.AsyncNetworkStream):
    """A stream whose reads and writes end at the deadline of their request."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))  # type: ignore[no-any-return]  # of any backend

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        left = _left(timeout, ConnectDeadlineError)
        return _AsyncStream(await self._stream.start_tls(ssl_context, server_hostname, left), self._connecting)


class _Backend(httpcore.NetworkBackend):
    """A network backend whose streams keep deadlines."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any) -> Any:
        _attempt.set(limit := timeout if type(timeout) is TimeLimit else None)
        if limit is None or type(self._backend) is not httpcore.SyncBackend:
            left = _left(timeout, ConnectDeadlineError)
            return _Stream(self._backend.connect_tcp(host, port, left, *args, **options), limit)
        addresses = _addresses(host, port)
        for others, address in zip(reversed(range(len(addresses))), addresses, strict=True):
            left = limit.left(ConnectDeadlineError)
            share = min(left / (others + 1), ATTEMPT_SECONDS) if others else left
            try:
                return _Stream(self._backend.connect_tcp(address, port, share, *args, **options), limit)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not others:
                    raise
        raise httpcore.ConnectError("the name has no address")

    def connect_unix_socket(self, path: str, timeout: float | None = None, *args: Any, **options: Any) -> Any:
        left = _left(timeout, ConnectDeadlineError)
        return _Stream(self._backend.connect_unix_socket(path, left, *args, **options), None)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(_pause(seconds))


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    """A network backend whose streams keep deadlines."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any) -> Any:
        _attempt.set(limit := timeout if type(timeout) is TimeLimit else None)
        left = _left(timeout, ConnectDeadlineError)
        return _AsyncStream(await self._backend.connect_tcp(host, port, left, *args, **options), limit)

    async def connect_unix_socket(self, path: str, timeout: float | None = None, *args: Any, **options: Any) -> Any:
        left = _left(timeout, ConnectDeadlineError)
        return _AsyncStream(await self._backend.connect_unix_socket(path, left, *args, **options), None)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(_pause(seconds))


def _pause(seconds: float) -> float:
    """Return the seconds of a pause between two connection attempts: no more than are left."""
    limit = _attempt.get()
    return seconds if limit is None else min(seconds, limit.left(ConnectDeadlineError))


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(error) from error
    return [str(address[0]) for *_, address in found]


def pools_of(transport: object) -> list[Any]:
    """Return the pools of httpcore in a transport, and in the transports inside it."""
    return [*_pools(transport, _DEPTH, {id(transport)})]


def _pools(owner: object, depth: int, seen: set[int]) -> Iterator[Any]:
    for each in getattr(owner, "__dict__", {}).values():
        if id(each) in seen:
            continue
        if isinstance(each, httpcore.ConnectionPool | httpcore.AsyncConnectionPool):
            seen.add(id(each))
            yield each
        elif depth and isinstance(each, httpx.BaseTransport | httpx.AsyncBaseTransport):
            seen.add(id(each))
            yield from _pools(each, depth - 1, seen)


def keep_deadlines(pool: Any) -> None:
    """Make the connections that a pool opens from now on keep deadlines."""
    backend = getattr(pool, "_network_backend", None)
    if backend is not None and not isinstance(backend, _Backend | _AsyncBackend):
        wrapper = _Backend if isinstance(pool, httpcore.ConnectionPool) else _AsyncBackend
        pool._network_backend = wrapper(backend)  # noqa: SLF001 - httpcore takes one at its creation alone
