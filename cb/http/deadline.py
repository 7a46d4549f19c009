"""A deadline for a whole HTTP request: connecting, sending, headers and body together.

The timeouts of requests and urllib3 count from one packet to the next: a slow enough response holds a thread for ever.
"""

from typing import Any

from requests import PreparedRequest, Response, adapters, certs
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ConnectTimeout, RequestException
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import EmptyPoolError
from urllib3.util import Retry

from cb import ConfigError
from cb.background.fork import detect_fork, register_fork_reset
from cb.log import Log
from cb.states import counted

from .body import UNOBSERVED_BODY, body_of, observe_body
from .caller_errors import is_caller_error
from .connections import DeadlineConnection, DeadlinePool, add_base, time_limit
from .messages import Sent, describe, is_of_connecting
from .pickling import PortableRequestError

log = Log(__name__)


class PoolTimeoutError(PortableRequestError, ConnectTimeout):
    """All connections of a blocking pool were in use until the deadline. Nothing has been sent."""


class DeadlineAdapter(HTTPAdapter):
    """A transport adapter that keeps requests within the limit that `within` sets, through proxies too.

    Connection attempts are repeated within the limit, without a pause. A request that was sent is not sent again:
    urllib3 would wait for the Retry-After of a response, for hours, and a breaker would count the last failure alone.
    Retry around the session instead.

    Args:
        pool_connections: Number of pools to cache, one for each host.
        pool_maxsize: Number of connections to keep in each pool.
        max_retries: Number of repeated connection attempts, from 0 to 10.
        pool_block: True to wait for a free connection instead of opening more than `pool_maxsize`.

    Raises:
        ConfigError: `max_retries` is out of range.
    """

    #: True after the fork reset has been registered, with the first request, also of an unpickled adapter
    _fork_reset_registered = False

    def __init__(
        self, pool_connections: int = 10, pool_maxsize: int = 10, max_retries: int = 0, pool_block: bool = False
    ) -> None:
        retries = _connect_retries(max_retries)
        # By name: in a subclass of two adapters, another one may come next.
        super().__init__(
            pool_connections=pool_connections, pool_maxsize=pool_maxsize, max_retries=retries, pool_block=pool_block
        )

    def __repr__(self) -> str:
        kept = counted(self._pool_maxsize, "connection")  # type: ignore[attr-defined]  # of types-requests
        attempts = counted((self.max_retries.total or 0) + 1, "connection attempt")
        return f"<{type(self).__name__}, keeps {kept} for each host, {attempts}>"

    def reset_after_fork(self) -> None:
        """Replace the pools in a forked child: two readers of one connection would get each other's responses."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            _inherited.append(manager.pools)  # not closed: a thread of the parent may hold their locks
            manager.pools = type(manager.pools)(manager.pools._maxsize)  # noqa: SLF001 - as its manager created it

    def cert_verify(self, conn: Any, *args: Any, **options: Any) -> None:
        """Prepare a pool for a request. A subclass may have created the pool itself."""
        add_base(conn, DeadlinePool, HTTPConnectionPool)
        super().cert_verify(conn, *args, **options)  # type: ignore[no-untyped-call]  # of types-requests
        # In requests 2.32.0 to 2.32.4 one context serves all hosts, before any other; truststore replaces it.
        shared = getattr(adapters, "_preloaded_ssl_context", None)
        if shared and getattr(conn, "conn_kw", {}).get("ssl_context") is shared:
            # urllib3 would store the certificates of this request in it.
            own = self.poolmanager.connection_pool_kw.get("ssl_context")
            conn.ca_certs = conn.ca_certs if own else certs.where()  # type: ignore[attr-defined]  # of types-requests
            conn.conn_kw["ssl_context"] = own

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Send a request. Raises PoolTimeoutError and the errors of HTTPAdapter."""
        detect_fork()  # two processes that read one connection would get each other's responses
        if not self._fork_reset_registered:
            self._fork_reset_registered = True
            register_fork_reset(self)
        limit = time_limit()
        try:
            response = super().send(request, *args, **options)
        except EmptyPoolError as error:
            full, sent = PoolTimeoutError(error, request=request), Sent.of(request, limit, args, options)
            raise describe(full, sent.target, sent.reason_of(error)) from error
        except RequestException as error:
            self._describe(error, Sent.of(request, limit, args, options))
            raise
        if limit is not None:
            _check(response)
        self._describe_body(response, Sent.of(request, limit, args, options))
        return response

    def _describe_body(self, response: Response, sent: Sent) -> None:
        """Give errors of reading the body a text with method, host and limits."""
        observe_body(body_of(response), None, UNOBSERVED_BODY, sent)

    def _describe(self, error: RequestException, sent: Sent) -> None:
        """Give an error a text with method, host and limits, unless the caller caused it."""
        error.request = error.request or sent.request
        if is_caller_error(error) or getattr(sent.request.body, "failed", False):
            return
        attempts = (self.max_retries.total or 0) + 1 if isinstance(error, RequestsConnectionError) else 1
        repeated = f" ({attempts} attempts)" if attempts > 1 and is_of_connecting(error) else ""
        describe(error, sent.target, sent.reason_of(error) + repeated)


_inherited: list[Any] = []
_logged: set[type] = set()


def _check(response: Response) -> None:
    """Log, once for each type of connection, that it cannot keep a deadline."""
    cls = type(getattr(response.raw, "_connection", None))
    if cls not in _logged and not issubclass(cls, DeadlineConnection | type(None)):
        _logged.add(cls)
        log.warning("the deadline does not hold on connections of %s: they are not urllib3's", cls.__qualname__)


def _connect_retries(attempts: int) -> Retry:
    """Return a policy of urllib3 that repeats connection attempts and nothing else."""
    if not isinstance(attempts, int) or isinstance(attempts, bool) or not 0 <= attempts <= 10:
        rule = "be a whole number from 0 to 10, of connection attempts: other retries belong around the breaker"
        raise ConfigError("max_retries", rule, attempts)
    return Retry(attempts, read=False, redirect=0, status=0, other=0, respect_retry_after_header=False)
