"""A limit on the whole of an HTTP exchange: connecting, sending, headers and body together.

The timeouts of requests and urllib3 count from one packet to the next: an answer that drips holds a thread for ever.
Here each connection knows when its exchange must be over, and each wait on its socket is cut to what is left.
"""

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Retry
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from cb.errors import ConfigError
from cb.forks import notice, renew_in_children


class _Current(threading.local):
    #: when the exchange that this thread begins must be over, in seconds of the monotonic clock; None without a limit
    end: float | None = None


_current = _Current()


class within:  # noqa: N801 - it reads as what it is: a context manager, and written so because each request makes one
    """Limit the exchanges that begin in the block to so many seconds, with their bodies, wherever those are read."""

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = _current.end
        _current.end = None if self._seconds is None else time.monotonic() + self._seconds

    def __exit__(self, *_: object) -> None:
        _current.end = self._before


class _Timed(socket.socket):
    """A socket that waits for each packet no longer than is left."""

    end: float | None = None
    _patience: float | None = None
    _cut = False

    def settimeout(self, value: float | None) -> None:
        self._patience = value
        self._cut = False
        super().settimeout(value)

    def arm(self) -> None:
        """Cut the next wait to what is left. Raises TimeoutError if nothing is."""
        if self.end is not None:
            left = self.end - time.monotonic()
            if left <= 0:
                raise TimeoutError("the exchange has taken too long")
            if self._cut or self._patience is None or left < self._patience:  # else that limit comes first
                self._cut = True
                super().settimeout(left if self._patience is None else min(self._patience, left))

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.arm()
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.arm()
        super().sendall(*args, **kwargs)


class _TimedTLS(_Timed, ssl.SSLSocket):
    """The same over TLS."""


class _Plain(HTTPConnection):
    sock: Any

    def _new_conn(self) -> socket.socket:
        return _open(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.sock.end = _current.end
        super().request(*args, **kwargs)


class _Secure(HTTPSConnection):
    sock: Any

    def _new_conn(self) -> socket.socket:
        return _open(self)

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, _Timed):
            self.sock.end = _current.end

    def request(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.sock, _Timed):
            self.sock.end = _current.end
        super().request(*args, **kwargs)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure

    def __init__(self, *args: Any, **options: Any) -> None:
        # Of this pool alone: urllib3 writes into it what is trusted, whether it is asked for, and who we are.
        context = create_urllib3_context(cert_reqs=resolve_cert_reqs(options.get("cert_reqs")))
        context.sslsocket_class = _TimedTLS
        super().__init__(*args, ssl_context=context, **options)


class DeadlineAdapter(HTTPAdapter):
    """Keeps the exchanges of a session within the limit that `within` sets. Not for proxies.

    `max_retries` is how often it tries again to connect, within the limit and without a pause. What has been sent is
    not sent again: urllib3 would wait for the Retry-After of an answer, for hours, and whoever counts failures would
    see the last one alone. Retry around it. Raises ConfigError for anything else than a small whole number.
    """

    def __init__(
        self, pool_connections: int = 10, pool_maxsize: int = 10, max_retries: int = 0, pool_block: bool = False
    ) -> None:
        retries = _connecting(max_retries)
        super().__init__(pool_connections, pool_maxsize, max_retries=retries, pool_block=pool_block)

    def init_poolmanager(self, connections: int, *args: Any, **options: Any) -> None:
        super().init_poolmanager(connections, *args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
        self._most, self._rest = connections, (args, options)
        self._pools: dict[tuple[str, bool | str | None], Any] = {}
        renew_in_children(self)

    def renew(self) -> None:
        """Leave the parent its connections, in a forked child: two who read one would get each other's answers."""
        _strays.extend([self.poolmanager, *self.proxy_manager.values()])  # a lost thread may hold the locks of closing
        self.proxy_manager.clear()
        args, options = self._rest
        self.init_poolmanager(self._most, *args, **options)

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> ConnectionPool:
        """Return the pool of a request's origin, looked up once: requests does it each time, for 3 % of a request."""
        notice()  # two who read one connection would get each other's answers
        if proxies or cert:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        key = front(request), verify
        pool: Any = self._pools.get(key)
        if pool is None or pool.pool is None:  # one that was closed, to make room for others
            pool = super().get_connection_with_tls_context(request, verify)
            if len(self._pools) >= self._most:
                self._pools.clear()
            self._pools[key] = pool
        found: ConnectionPool = pool
        return found

    def close(self) -> None:
        """Close the connections. The next request opens one anew."""
        self._pools.clear()
        super().close()


_strays: list[PoolManager] = []


def _connecting(attempts: int) -> Retry:
    """Return what has urllib3 try again to connect, and nothing else."""
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 0 <= attempts <= 10:
        rule = "be a whole number from 0 to 10, of attempts to connect: what else is retried belongs around the breaker"
        raise ConfigError("max_retries", rule, attempts)
    return Retry(attempts, read=False, redirect=0, status=0, other=0, respect_retry_after_header=False)


def front(request: PreparedRequest) -> str:
    """Return what a request's URL says before its path, as in `https://example.com`."""
    return "/".join((request.url or "").split("/", 3)[:3])


def _open(connection: HTTPConnection) -> socket.socket:
    """Return a connected socket: of all addresses of a name the first that answers, within what is left."""
    error = OSError("the name has no address")
    try:
        addresses = socket.getaddrinfo(connection.host.strip("[]"), connection.port, type=socket.SOCK_STREAM)
    except OSError as unknown:
        raise NewConnectionError(connection, f"Failed to resolve: {unknown}") from unknown
    for family, kind, protocol, _, address in addresses:
        sock = None
        try:
            sock = _Timed(family, kind, protocol)
            sock.end = _current.end
            for option in connection.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(connection.timeout if isinstance(connection.timeout, float | int) else None)
            sock.arm()
            sock.connect(address)
            sock.arm()  # for the handshake of TLS
            return sock
        except OSError as failed:
            if sock is not None:
                sock.close()
            error = failed
    if isinstance(error, TimeoutError):
        raise ConnectTimeoutError(connection, f"Connection to {connection.host} timed out") from error
    raise NewConnectionError(connection, f"Failed to establish a new connection: {error}") from error
