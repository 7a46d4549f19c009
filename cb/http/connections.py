"""Connections of urllib3 that limit each wait to the time left until the deadline of their request.

Sockets of any kind are wrapped: of gevent, TLS by ssl, truststore or pyOpenSSL, TLS within TLS. So pools and TLS
settings stay those of urllib3, including changes that others make to them.
"""

import socket
import sys
from contextlib import suppress
from contextvars import ContextVar, Token
from datetime import timedelta
from functools import lru_cache
from typing import Any, Self

from requests import Response
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError
from urllib3.util import connection as _net

from cb import Duration
from cb.clocks import monotonic

from .caller_errors import Upload
from .timeouts import ATTEMPT_SECONDS, Deadline


class _Deadline(float):
    """A deadline in seconds of the monotonic clock, and the time limit that it ends."""

    __slots__ = ("limit",)
    #: the time limit, in seconds
    limit: float

    def __new__(cls, limit: float) -> Self:
        self = super().__new__(cls, monotonic() + limit)
        self.limit = limit
        return self


#: deadline of the requests that begin here; None without a deadline
_deadline: ContextVar[_Deadline | None] = ContextVar("cb.http.deadline", default=None)
#: bytes per write; the deadline is checked before each
_CHUNK_BYTES = 65_536
#: urllib3's own function: others replace it to choose the address themselves
_CREATE = _net.create_connection


class within:  # noqa: N801 - a context manager that reads as a function; a class, since each request makes one
    """Limit the requests that begin inside the block to a number of seconds, their bodies included.

    The deadline stays with a request whose body is read after the block.

    Args:
        seconds: Time limit from the start of the block, in seconds or as a timedelta; None for no limit.
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: Duration | None) -> None:
        self._seconds = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds

    def __repr__(self) -> str:
        return f"within({self._seconds})"

    def __enter__(self) -> None:
        self._token: Token[_Deadline | None] = _deadline.set(
            None if self._seconds is None else _Deadline(self._seconds)
        )

    def __exit__(self, *_: object) -> None:
        _deadline.reset(self._token)


class _DeadlineSocket:
    """A socket, or an object used as one, that waits for each packet at most until the deadline."""

    makefile = socket.socket.makefile
    _closed = False
    _shortened = False
    _io_refs = 0

    def __init__(self, sock: Any, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._timeout: float | None = None
        with suppress(Exception):  # an object used as a socket may have no timeout, or return anything
            self._timeout = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, value: float | None) -> None:
        self._timeout = value
        self._shortened = False
        self._sock.settimeout(value)

    def gettimeout(self) -> float | None:
        return self._deadline.left(self._timeout)  # TLS over it copies the value, or reads it before each wait

    def _shorten(self) -> None:
        """Limit the next wait to the time left. Raises TimeoutError after the deadline."""
        if self._deadline.at is not None:
            left = self._deadline.left(self._timeout)
            if self._shortened or left != self._timeout:  # else the socket's own timeout is shorter
                self._shortened = True
                self._sock.settimeout(left)

    def recv(self, *args: Any) -> Any:
        self._shorten()
        return self._sock.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self._shorten()
        return self._sock.recv_into(*args)

    def sendall(self, data: Any, *args: Any) -> None:
        # In chunks: TLS restarts the timeout for each packet.
        with memoryview(data) as view, view.cast("B") as octets:
            if len(octets) <= _CHUNK_BYTES:
                self._shorten()
                self._sock.sendall(data, *args)
                return
            for begin in range(0, len(octets), _CHUNK_BYTES):
                self._shorten()
                self._sock.sendall(octets[begin : begin + _CHUNK_BYTES], *args)

    def close(self) -> None:
        """Close the socket after the last file that reads from it, as sockets do."""
        self._closed = True
        if self._io_refs <= 0:
            self._sock.close()

    def _decref_socketios(self) -> None:
        self._io_refs -= 1
        if self._closed:
            self.close()


def time_limit() -> float | None:
    """Return the time limit of the requests that begin here, in seconds; None without a deadline."""
    deadline = _deadline.get()
    return None if deadline is None else deadline.limit


def deadline_of(response: Response) -> Deadline:
    """Return the deadline of a response whose body has not been read."""
    connection = getattr(response.raw, "_connection", None)
    return connection.deadline if isinstance(connection, DeadlineConnection) else Deadline()


class DeadlineConnection(HTTPConnection):
    """A connection of urllib3 whose current request has a deadline."""

    sock: Any

    @property
    def deadline(self) -> Deadline:
        """The deadline of the current request."""
        deadline: Deadline = self.__dict__.setdefault("_deadline", Deadline())
        return deadline

    def connect(self) -> None:
        """Connect before the deadline. Raises the errors of urllib3."""
        self.deadline.at = _deadline.get()
        timeout = self.timeout
        if self.deadline.at is not None:
            try:
                # The waits of the handshakes take over the timeout of the connection.
                self.timeout = self.deadline.left(timeout if isinstance(timeout, int | float) else None)
            except TimeoutError as error:
                raise ConnectTimeoutError(self, f"no time is left to connect to {self.host}") from error
        try:
            super().connect()
        finally:
            self.timeout = timeout
        self.sock = self._wrapped(self.sock)

    def request(self, method: str, url: str, body: Any = None, *args: Any, **options: Any) -> None:
        """Send a request. Time spent reading the caller's own body does not count."""
        self._begin(body)
        super().request(method, url, body, *args, **options)

    def request_chunked(self, method: str, url: str, body: Any = None, *args: Any, **options: Any) -> None:
        """Send a request whose length is unknown. Later versions of urllib3 than 1.26 do it in `request`."""
        self._begin(body)
        super().request_chunked(method, url, body, *args, **options)

    def _begin(self, body: Any) -> None:
        self.deadline.at = _deadline.get()
        if self.sock is not None:
            self.sock = self._wrapped(self.sock)
        if isinstance(body, Upload) and self.deadline not in body.timers:
            body.timers.append(self.deadline)

    def _new_conn(self) -> Any:
        inherited = super()._new_conn
        # Others choose the address themselves: SOCKS, UNIX sockets, and replacements of urllib3's function.
        own = getattr(inherited, "__func__", None) is HTTPConnection._new_conn and _net.create_connection is _CREATE  # noqa: SLF001 - compared, not called
        return self._wrapped(self._connect_any() if own else inherited())

    def _connect_tls_proxy(self, *args: Any, **options: Any) -> Any:
        return self._wrapped(super()._connect_tls_proxy(*args, **options))  # type: ignore[misc]  # of HTTPS, with a proxy

    def _wrapped(self, sock: Any) -> Any:
        return sock if sock is None or isinstance(sock, _DeadlineSocket) else _DeadlineSocket(sock, self.deadline)

    def _connect_any(self) -> socket.socket:
        """Return a socket to the first address that accepts a connection. The addresses share the time left.

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
                if self.deadline.at is not None:
                    sock.settimeout(self.timeout)
                sys.audit("http.client.connect", self, self.host, self.port)
                return sock
        if isinstance(failed, TimeoutError):
            raise ConnectTimeoutError(self, f"Connection to {host} timed out") from failed
        raise NewConnectionError(self, f"Failed to establish a new connection: {failed}") from failed

    def _share(self, others: int) -> float | None:
        """Return the seconds for one address, with so many others left to try. Raises TimeoutError."""
        left = self.deadline.left(None)
        timeout: float | None = self.timeout
        if left is None or timeout is None:  # with a deadline, the timeout is a number
            return timeout
        return min(timeout, left / (others + 1), ATTEMPT_SECONDS) if others else min(timeout, left)


class DeadlinePool(HTTPConnectionPool):
    """A pool of connections whose requests have deadlines."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"  # errors of urllib3 begin with it

    def _get_conn(self, timeout: float | None = None) -> Any:
        at = _deadline.get()
        if at is not None:  # the wait for a connection counts, too
            left = max(at - monotonic(), 0.0)
            timeout = left if timeout is None else min(timeout, left)
        connection = super()._get_conn(timeout)
        add_base(connection, DeadlineConnection, HTTPConnection)
        return connection


def add_base(instance: Any, mixin: Any, required: type) -> None:
    """Add a base to the class of an instance of `required`: its class becomes a subclass."""
    if isinstance(instance, required) and not isinstance(instance, mixin):
        cls: Any = type(instance)
        object.__setattr__(instance, "__class__", _subclass(mixin, cls))  # recorders override __setattr__


@lru_cache(maxsize=64)
def _subclass(mixin: type, cls: type) -> type:
    return type(cls.__name__, (mixin, cls), {})
