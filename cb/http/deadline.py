"""A limit on the whole of an HTTP exchange: connecting, sending, headers and body together.

The timeouts of requests and urllib3 count from one packet to the next: an answer that drips holds a thread for ever.
"""

from typing import Any

from requests import PreparedRequest, Response, adapters, certs
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectTimeout
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import EmptyPoolError
from urllib3.util import Retry

from cb.background.fork import detect_fork, register_fork_reset
from cb.errors import ConfigError
from cb.log import Log

from .pickling import PortableRequestError
from .timed import TimedConnection, TimedPool, become, limited

log = Log(__name__)


class PoolTimeoutError(PortableRequestError, ConnectTimeout):
    """A request that found all connections of a blocking pool in use until its deadline. Nothing has been sent."""


class DeadlineAdapter(HTTPAdapter):
    """Keeps the exchanges of a session within the limit that `within` sets, through proxies too.

    `max_retries` is how often it tries again to connect, within the limit and without a pause. What has been sent is
    not sent again: urllib3 would wait for the Retry-After of an answer, for hours, and whoever counts failures would
    see the last one alone. Retry around it. Raises ConfigError for anything else than a small whole number.
    """

    #: whether it begins anew in forked children: registered with the first request, also where it was unpickled
    _renewed_in_children = False

    def __init__(
        self, pool_connections: int = 10, pool_maxsize: int = 10, max_retries: int = 0, pool_block: bool = False
    ) -> None:
        retries = _connecting(max_retries)
        # By name: another adapter may come next, if somebody combines two.
        super().__init__(
            pool_connections=pool_connections, pool_maxsize=pool_maxsize, max_retries=retries, pool_block=pool_block
        )

    def reset_after_fork(self) -> None:
        """Leave the parent its connections, in a forked child: two who read one would get each other's answers."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            _strays.append(manager.pools)  # a lost thread may hold the locks of closing
            manager.pools = type(manager.pools)(manager.pools._maxsize)  # noqa: SLF001 - made as its manager made it

    def cert_verify(self, conn: Any, *args: Any, **options: Any) -> None:
        """Prepare a pool for a request, wherever it comes from."""
        become(conn, TimedPool, HTTPConnectionPool)
        super().cert_verify(conn, *args, **options)  # type: ignore[no-untyped-call]  # of types-requests
        # Of requests 2.32.0 to 2.32.4, for all hosts and in place of any other; truststore replaces it.
        shared = getattr(adapters, "_preloaded_ssl_context", None)
        if shared and getattr(conn, "conn_kw", {}).get("ssl_context") is shared:
            # urllib3 writes into it whom a request trusts, and who we are.
            own = self.poolmanager.connection_pool_kw.get("ssl_context")
            conn.ca_certs = conn.ca_certs if own else certs.where()  # type: ignore[attr-defined]  # of types-requests
            conn.conn_kw["ssl_context"] = own

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Send a request. Raises PoolTimeoutError, and what HTTPAdapter raises."""
        detect_fork()  # two processes that read one connection would get each other's answers
        if not self._renewed_in_children:
            self._renewed_in_children = True
            register_fork_reset(self)
        try:
            response = super().send(request, *args, **options)
        except EmptyPoolError as error:
            raise PoolTimeoutError(error, request=request) from error
        if limited():
            _check(response)
        return response


_strays: list[Any] = []
_told: set[type] = set()


def _check(response: Response) -> None:
    """Say once for each kind of connection that a limit could not be kept by it."""
    kind = type(getattr(response.raw, "_connection", None))
    if kind not in _told and not issubclass(kind, TimedConnection | type(None)):
        _told.add(kind)
        log.warning("the deadline does not hold on connections of %s: they are none of urllib3's", kind.__qualname__)


def _connecting(attempts: int) -> Retry:
    """Return what has urllib3 try again to connect, and nothing else."""
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 0 <= attempts <= 10:
        rule = "be a whole number from 0 to 10, of attempts to connect: what else is retried belongs around the breaker"
        raise ConfigError("max_retries", rule, attempts)
    return Retry(attempts, read=False, redirect=0, status=0, other=0, respect_retry_after_header=False)
