"""An adapter that puts breakers before the requests of any `requests.Session`."""

from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL
from urllib3.util import parse_url

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, ConfigError, Registry
from cb.bulkhead import check
from cb.call import Call
from cb.http.observer import CallObserver, observe
from cb.ledger.names import fitting_name
from cb.pickling import PortableError

from .body import observe_body
from .caller_errors import Upload, is_caller_error
from .connections import Deadline, deadline_of, within
from .deadline import DeadlineAdapter, PoolTimeoutError
from .pickling import PortableRequestError
from .responses import FAILURE_STATUSES, retry_after

#: seconds that an exchange may take, its body included, and bytes that a body may have
TIMEOUT, MAX_BODY_BYTES = 30.0, 10 << 20
#: connections kept per host: at least the threads of a worker
POOL = 64
_PORTS = {"http": 80, "https": 443}


class FailureStatusError(PortableError):
    """A response that counts as failure."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(status, retry_after)
        #: of HTTP
        self.status = status
        #: seconds that the dependency asks to be left alone
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"status {self.status}"


class CircuitOpenConnectionError(CircuitOpenError, PortableRequestError, requests.exceptions.ConnectionError):
    """A request that a `CircuitBreakerAdapter` refused, for those who catch what requests raises."""

    def __init__(self, name: str, retry_after: float | None, request: requests.PreparedRequest | None = None) -> None:
        PortableRequestError.__init__(self, name, retry_after, request=request)


class BulkheadFullConnectionError(BulkheadFullError, PortableRequestError, requests.exceptions.ConnectionError):
    """A request for which a `CircuitBreakerAdapter` had no slot, for those who catch what requests raises."""

    def __init__(self, name: str, limit: int, request: requests.PreparedRequest | None = None) -> None:
        PortableRequestError.__init__(self, name, limit, request=request)


class CircuitBreakerAdapter(DeadlineAdapter):
    """Puts breakers before the requests of a session: `session.mount("https://", CircuitBreakerAdapter(registry))`.

    Each scheme, host and port has its own breaker, or `name` says which: a name, or a function of the request. A
    response with one of the `failure_statuses` counts as failure and is returned all the same. Any other counts when
    its body has been read to its end, or closed before: a body that breaks off, or drips, or is longer than
    `max_body_bytes`, is a failure. `timeout` is seconds for the whole exchange, body included; a probe has at most its
    breaker's `probe_timeout`. A request that cannot be sent as it is counts as nothing. `limit` gives each breaker a
    bulkhead: so many exchanges at once, bodies included, and one more waits up to `wait` seconds.
    """

    #: what is pickled, as in HTTPAdapter
    __attrs__ = (
        *HTTPAdapter.__attrs__,
        "_timeout",
        "_failure_statuses",
        "_max_body_bytes",
        "_name",
        "_places",
        "_registry",
    )

    def __init__(
        self,
        registry: Registry,
        name: str | Callable[[requests.PreparedRequest], str] | None = None,
        *,
        timeout: float | None = TIMEOUT,
        max_body_bytes: int = MAX_BODY_BYTES,
        failure_statuses: Collection[int] = FAILURE_STATUSES,
        limit: int | None = None,
        wait: float = 0.0,
        pool_maxsize: int = POOL,
        **options: Any,
    ) -> None:
        self._registry = registry
        self._name = name if name is None or callable(name) else _checked(name)
        self._timeout = timeout
        self._max_body_bytes = max_body_bytes
        self._failure_statuses = frozenset(failure_statuses)
        if limit is not None:
            check(limit, wait)
        self._places = limit, wait
        super().__init__(pool_maxsize=pool_maxsize, **options)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises CircuitOpen- and BulkheadFullConnectionError, and what HTTPAdapter raises."""
        at = origin(request)  # what has none cannot be sent, and has no breaker
        name = at if self._name is None else self._name(request) if callable(self._name) else self._name
        breaker = self._guard(name)
        body, upload = request.body, Upload.of(request.body)
        try:
            call = breaker.begin()
        except CircuitOpenError as error:
            raise CircuitOpenConnectionError(error.name, error.retry_after, request) from error
        except BulkheadFullError as error:
            raise BulkheadFullConnectionError(error.name, error.limit, request) from error
        exchange = observe(breaker, call, request.method or "", request.url or "", request.headers)
        sent = _Sent(call, exchange)
        if upload:
            upload.timers.append(sent)
        try:
            request.body = upload or body  # type: ignore[assignment]  # of types-requests: it may be any iterable
            with exchange, within(self._limit(breaker, call)):
                response = super().send(request, *args, **kwargs)
        except BaseException as error:
            # Connections that others hold are not the dependency's business either.
            if (upload and upload.failed) or is_caller_error(error) or isinstance(error, PoolTimeoutError):
                call.discard()
            else:
                call.fail(error)
            raise
        finally:
            request.body = body
        exchange.response_received(response.status_code)
        sent.limit = deadline_of(response)
        sent.answered = True
        if response.status_code in self._failure_statuses:
            sent.settle(FailureStatusError(response.status_code, retry_after(response.headers)))
        # A recorder or a test double may bring the content as well, and then nobody reads the body.
        read = getattr(response, "_content", False) is not False
        observe_body(None if read else response.raw, self._max_body_bytes, sent)
        return response

    def _guard(self, name: str) -> CircuitBreaker | Bulkhead:
        breaker = self._registry.get(fitting_name(_checked(name)))  # a request is not refused for what it is called
        limit, wait = self._places
        if limit is None:
            return breaker
        return Bulkhead(breaker, limit, wait)  # not kept: there may be very many origins

    def _limit(self, breaker: CircuitBreaker | Bulkhead, call: Call) -> float | None:
        limit = breaker.config.probe_timeout if call.probe else None
        if limit is None or self._timeout is None:
            return limit or self._timeout
        return min(limit, self._timeout)


class _Sent:
    """A call whose request is sent, until the body of its answer has been read."""

    __slots__ = ("_call", "_exchange", "answered", "limit")

    def __init__(self, call: Call, exchange: CallObserver) -> None:
        self._call = call
        self._exchange = exchange
        #: that of the connection on which the body comes
        self.limit = Deadline()
        #: whether there are a status and headers
        self.answered = False

    def settle(self, error: BaseException | None) -> None:
        """Count how it ended, for the first time or again."""
        if error is None:
            self._call.succeed()
        else:
            self._call.fail(error)

    def end(self, error: BaseException | None) -> None:
        """Note how the body ended."""
        self.settle(error)
        self._exchange.ended(error)

    def pause(self) -> None:
        """Let the caller take his time: neither the deadline nor the breaker has a part in it."""
        self.limit.pause()
        self._call.pause(answered=self.answered)

    def resume(self) -> None:
        """Note that the caller waits for the body again."""
        self.limit.resume()
        self._call.resume()


def _checked(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigError("name", "be a string, or a function of the request that returns one", name)
    return name


def origin(request: requests.PreparedRequest) -> str:
    """Return scheme, host and port of a request, as in `https://example.com:443`, shortened if it is very long.

    Raises InvalidURL, as requests does, for a URL without a host to send it to.
    """
    try:
        parts = urlsplit(request.url or "")
        return _origin(parts.scheme, parts.netloc)
    except ValueError as error:  # a URL, a host or a label of it that cannot be read
        raise InvalidURL(error, request=request) from error


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> str:
    parts = urlsplit(f"//{netloc}")
    host = parts.hostname
    if not host:
        raise ValueError("No host specified.")
    scheme = scheme or "http"  # so does requests
    if scheme in _PORTS:
        host.encode("idna")  # as it would be looked up. Raises UnicodeError
    if ":" in host:
        host = f"[{host if '%' in host else IPv6Address(host)}]"
    else:
        host = (parse_url(f"//{host}").host or host).removesuffix(".")
    scheme = scheme or "http"  # so does requests
    port = _PORTS.get(scheme) if parts.port is None else parts.port
    name = f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"  # a socket of UNIX has none
    return fitting_name(name)  # a host may be longer than the name of a breaker
