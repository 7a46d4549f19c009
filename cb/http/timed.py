"""Connections of urllib3 that know when their exchange must be over, and cut each wait to what is left.

What waits is wrapped, whatever it is: a socket of gevent, TLS by ssl, truststore or pyOpenSSL, TLS within TLS. So the
pools and the settings of TLS stay those of urllib3, and of who changes them.
"""

import socket
import sys
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import lru_cache
from typing import Any

from requests import Response
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError
from urllib3.util import connection as _net

from cb.clocks import monotonic

from .caller_errors import Upload

#: when the exchange that begins must be over, in seconds of the monotonic clock; None without a limit
_end: ContextVar[float | None] = ContextVar("cb.http.deadline", default=None)
#: seconds that an address may take to accept a connection while others are left to try (RFC 8305, section 8)
ATTEMPT = 2.0
#: bytes that are sent between two looks at the time
_PIECE = 65_536
#: what others replace to choose the address themselves
_CREATE = _net.create_connection


class within:  # noqa: N801 - it reads as what it is: a context manager, and written so because each request makes one
    """Limit the exchanges that begin in the block to so many seconds, with their bodies, wherever those are read."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token: Token[float | None] = _end.set(None if self._seconds is None else monotonic() + self._seconds)

    def __exit__(self, *_: object) -> None:
        _end.reset(self._token)


class Limit:
    """The end of the exchange that a connection has at the moment."""

    __slots__ = ("_paused", "end")

    def __init__(self) -> None:
        #: in seconds of the monotonic clock; None without a limit
        self.end: float | None = None
        self._paused: float | None = None

    def pause(self) -> None:
        """Count no time until `resume`."""
        self._paused = monotonic()

    def resume(self) -> None:
        """Put the end off by the time since `pause`."""
        if self.end is not None and self._paused is not None:
            self.end += monotonic() - self._paused
        self._paused = None

    def left(self, timeout: float | None) -> float | None:
        """Return what is left of a timeout. Raises TimeoutError if nothing is."""
        if self.end is None:
            return timeout
        left = self.end - monotonic()
        if left <= 0:
            raise TimeoutError("the exchange has taken too long")
        return left if timeout is None else min(timeout, left)


class _Timed:
    """A socket, or what stands for one, that waits for each packet no longer than is left."""

    makefile = socket.socket.makefile
    _closed = False
    _cut = False
    _io_refs = 0

    def __init__(self, sock: Any, limit: Limit) -> None:
        self._sock = sock
        self._limit = limit
        self._timeout: float | None = None
        with suppress(Exception):  # what stands for a socket may have no timeout, or answer anything
            self._timeout = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, value: float | None) -> None:
        self._timeout = value
        self._cut = False
        self._sock.settimeout(value)

    def gettimeout(self) -> float | None:
        return self._limit.left(self._timeout)  # TLS over it takes it over, or asks before each wait

    def _arm(self) -> None:
        """Cut the next wait to what is left. Raises TimeoutError if nothing is."""
        if self._limit.end is not None:
            left = self._limit.left(self._timeout)
            if self._cut or left != self._timeout:  # else that limit comes first
                self._cut = True
                self._sock.settimeout(left)

    def recv(self, *args: Any) -> Any:
        self._arm()
        return self._sock.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self._arm()
        return self._sock.recv_into(*args)

    def sendall(self, data: Any, *args: Any) -> None:
        # By pieces: TLS allows each packet of its own the whole time.
        with memoryview(data) as view, view.cast("B") as octets:
            if len(octets) <= _PIECE:
                self._arm()
                self._sock.sendall(data, *args)
                return
            for begin in range(0, len(octets), _PIECE):
                self._arm()
                self._sock.sendall(octets[begin : begin + _PIECE], *args)

    def close(self) -> None:
        """Close it once no file reads from it, as sockets do."""
        self._closed = True
        if self._io_refs <= 0:
            self._sock.close()

    def _decref_socketios(self) -> None:
        self._io_refs -= 1
        if self._closed:
            self.close()


def limited() -> bool:
    """Return whether an exchange that begins here has a limit."""
    return _end.get() is not None


def limit_of(response: Response) -> Limit:
    """Return the limit of an exchange whose body has not been read."""
    connection = getattr(response.raw, "_connection", None)
    return connection.limit if isinstance(connection, TimedConnection) else Limit()


class TimedConnection(HTTPConnection):
    """A connection of urllib3 that knows when its exchange must be over."""

    sock: Any

    @property
    def limit(self) -> Limit:
        """The limit of the exchange that it has at the moment."""
        limit: Limit = self.__dict__.setdefault("_limit", Limit())
        return limit

    def connect(self) -> None:
        """Connect within what is left. Raises what urllib3 does."""
        self.limit.end = _end.get()
        timeout = self.timeout
        if self.limit.end is not None:
            try:
                # What waits in here takes over the timeout of the connection.
                self.timeout = self.limit.left(timeout if isinstance(timeout, int | float) else None)
            except TimeoutError as error:
                raise ConnectTimeoutError(self, f"no time is left to connect to {self.host}") from error
        try:
            super().connect()
        finally:
            self.timeout = timeout
        self.sock = self._timed(self.sock)

    def request(self, method: str, url: str, body: Any = None, *args: Any, **options: Any) -> None:
        """Send a request. The time in which the caller's own body is read does not count."""
        self.limit.end = _end.get()
        if self.sock is not None:
            self.sock = self._timed(self.sock)
        if isinstance(body, Upload):
            body.timers.append(self.limit)
        super().request(method, url, body, *args, **options)

    def _new_conn(self) -> Any:
        behind = super()._new_conn
        # Others choose the address themselves: SOCKS, sockets of UNIX, and what replaces a function of urllib3.
        own = getattr(behind, "__func__", None) is HTTPConnection._new_conn and _net.create_connection is _CREATE  # noqa: SLF001 - one to be told from others
        return self._timed(self._first() if own else behind())

    def _connect_tls_proxy(self, *args: Any, **options: Any) -> Any:
        return self._timed(super()._connect_tls_proxy(*args, **options))  # type: ignore[misc]  # of HTTPS, with a proxy

    def _timed(self, sock: Any) -> Any:
        return sock if sock is None or isinstance(sock, _Timed) else _Timed(sock, self.limit)

    def _first(self) -> socket.socket:
        """Return a socket to the first address that answers; one that does not leaves the others their share of time.

        Raises ConnectTimeoutError, NewConnectionError, LocationParseError.
        """
        host = getattr(self, "_dns_host", self.host).strip("[]")
        try:
            found = socket.getaddrinfo(host, self.port, _net.allowed_gai_family(), socket.SOCK_STREAM)
        except UnicodeError as error:
            raise LocationParseError(f"'{host}', label empty or too long") from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to resolve '{host}' ({error})") from error
        failed: OSError = OSError("the name has no address")
        for others, (*_, address) in zip(reversed(range(len(found))), found, strict=True):
            numeric = str(address[0])
            try:
                sock = _CREATE((numeric, self.port), self._share(others), self.source_address, self.socket_options)
            except OSError as error:
                failed = error
            else:
                if self.limit.end is not None:
                    sock.settimeout(self.timeout)
                sys.audit("http.client.connect", self, self.host, self.port)
                return sock
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {host} timed out") from failed
        raise NewConnectionError(self, f"Failed to establish a new connection: {failed}") from failed

    def _share(self, others: int) -> float | None:
        """Return how long an address may take that so many others come after. Raises TimeoutError."""
        left = self.limit.left(None)
        timeout: float | None = self.timeout
        if left is None or timeout is None:  # where there is a limit, it has a number
            return timeout
        return min(timeout, left / (others + 1), ATTEMPT) if others else min(timeout, left)


class TimedPool(HTTPConnectionPool):
    """A pool whose connections know when their exchange must be over."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        end = _end.get()
        if end is not None:  # to wait for others to give one back counts, too
            left = max(end - monotonic(), 0.0)
            timeout = left if timeout is None else min(timeout, left)
        connection = super()._get_conn(timeout)
        become(connection, TimedConnection, HTTPConnection)
        return connection


def become(thing: Any, timed: Any, kind: type) -> None:
    """Have a thing of some kind keep the limit, whoever made it: it becomes one of a subclass of its own class."""
    if isinstance(thing, kind) and not isinstance(thing, timed):
        own: Any = type(thing)
        object.__setattr__(thing, "__class__", _subclass(timed, own))  # recorders pass on what is set on theirs


@lru_cache(maxsize=64)
def _subclass(timed: type, behind: type) -> type:
    return type(behind.__name__, (timed, behind), {})
