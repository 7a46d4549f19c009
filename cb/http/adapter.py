"""A transport adapter that puts breakers before the requests of any `requests.Session`."""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL
from urllib3.util import parse_url

from cb import BulkheadFullError, Call, CircuitOpenError, Duration, Guard, RateLimitedError, Registry

from .body import body_of, observe_body
from .caller_errors import Upload, is_caller_error
from .connections import deadline_of, within
from .deadline import DeadlineAdapter, PoolTimeoutError
from .errors import BodyTooLargeError, FailureStatusError
from .exchange import answered
from .guarding import Guarding
from .messages import Sent, target
from .observer import CallObserver, observe
from .origins import PORTS, origin_name
from .pickling import PortableRequestError
from .responses import FAILURE_STATUSES, retry_after
from .timeouts import TIMEOUT, Deadline

#: connections kept per host, at least as many as a worker has threads
POOL_SIZE = 64


class CircuitOpenConnectionError(CircuitOpenError, PortableRequestError, requests.exceptions.ConnectionError):
    """A request that an open circuit rejected, also for code that catches the errors of requests.

    Args:
        name: Name of the breaker.
        retry_after: Seconds until a call may be admitted; None while an operator holds the circuit open.
        request: The request.
    """

    def __init__(self, name: str, retry_after: float | None, request: requests.PreparedRequest | None = None) -> None:
        PortableRequestError.__init__(self, name, retry_after, request=request)


class BulkheadFullConnectionError(BulkheadFullError, PortableRequestError, requests.exceptions.ConnectionError):
    """A request that a full bulkhead rejected, also for code that catches the errors of requests.

    Args:
        name: Name of the breaker behind the bulkhead.
        limit: Number of calls that may run at once.
        request: The request.
    """

    def __init__(self, name: str, limit: int, request: requests.PreparedRequest | None = None) -> None:
        PortableRequestError.__init__(self, name, limit, request=request)


class RateLimitedConnectionError(RateLimitedError, PortableRequestError, requests.exceptions.ConnectionError):
    """A request that the rate limit of a policy rejected, also for code that catches the errors of requests.

    Args:
        name: Name of the rate limit.
        retry_after: Seconds until there may be room for another call.
        request: The request.
    """

    def __init__(self, name: str, retry_after: float | None, request: requests.PreparedRequest | None = None) -> None:
        PortableRequestError.__init__(self, name, retry_after, request=request)


class CircuitBreakerAdapter(DeadlineAdapter):
    """A transport adapter that guards requests: `session.mount("https://", CircuitBreakerAdapter(registry))`.

    With a registry, each scheme, host and port has a breaker of its own, or `name` selects one. A response with one of
    the `failure_statuses` counts as a failure, and is returned. Any other response counts when its body has been read
    to its end, or closed: a body that is cut off or too slow is a failure. A request that cannot be sent counts as
    neither. A probe takes at most its breaker's `probe_timeout`.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests.
        name: Name of the breaker in the registry, or a function of the request that returns it.
        timeout: Time limit for a request and its response, body included, in seconds or as a timedelta; None for no
            limit.
        max_body_bytes: Largest body of a response, in bytes after decompression; None for no limit. A longer one raises
            BodyTooLargeError, and counts as neither success nor failure.
        failure_statuses: Statuses that count as failures.
        limit: Number of requests that may run at once through each breaker, bodies included; None for no bulkhead.
        wait: Time to wait for a place in the bulkhead.
        pool_maxsize: Number of connections to keep per host.
        options: Options of `DeadlineAdapter`.

    Raises:
        ConfigError: A parameter is invalid, or `name` or `limit` is given for a guard that is no registry.
    """

    #: attributes to pickle, as in HTTPAdapter
    __attrs__ = (*HTTPAdapter.__attrs__, "_guarding")

    def __init__(
        self,
        guard: Registry | Guard,
        name: str | Callable[[requests.PreparedRequest], str] | None = None,
        *,
        timeout: Duration | None = TIMEOUT,
        max_body_bytes: int | None = None,
        failure_statuses: Collection[int] = FAILURE_STATUSES,
        limit: int | None = None,
        wait: Duration = 0.0,
        pool_maxsize: int = POOL_SIZE,
        **options: Any,
    ) -> None:
        self._guarding = Guarding(
            guard,
            name,
            timeout=timeout,
            max_body_bytes=max_body_bytes,
            failure_statuses=failure_statuses,
            limit=limit,
            wait=wait,
        )
        super().__init__(pool_maxsize=pool_maxsize, **options)

    def __repr__(self) -> str:
        return f"<CircuitBreakerAdapter of {self._guarding!r}>"

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request.

        Raises:
            CircuitOpenConnectionError: The circuit rejected the request; nothing was sent.
            BulkheadFullConnectionError: The bulkhead is full; nothing was sent.
            RateLimitedConnectionError: The rate limit of a policy is exceeded; nothing was sent.
            requests.RequestException: The errors of HTTPAdapter.
        """
        guarding = self._guarding
        guard = guarding.guard_of(request, origin(request))  # without an origin, it cannot be sent
        body, upload = request.body, Upload.of(request.body)
        call = _begin(guard, request)
        observer = observe(guard, call, request.method or "", request.url or "", request.headers)
        limit = guarding.limit_of(guard, call)
        sent = _SentRequest(call, observer)
        if upload:
            upload.timers.append(sent)
        try:
            request.body = upload or body  # type: ignore[assignment]  # of types-requests: it may be any iterable
            with observer, within(limit):
                response = super().send(request, *args, **kwargs)
        except BaseException as error:
            # Connections held by other calls are not a failure of the dependency either.
            if (upload and upload.failed) or is_caller_error(error) or isinstance(error, PoolTimeoutError):
                call.discard()
            else:
                call.fail(error)
            raise
        finally:
            request.body = body
        observer.response_received(response.status_code)
        sent.deadline = deadline_of(response)
        sent.answered = True
        if response.status_code in guarding.failure_statuses:
            wait = retry_after(response.headers)
            call.fail(FailureStatusError(response.status_code, wait, target(request)))
        observe_body(body_of(response), guarding.max_body_bytes, sent, Sent.of(request, limit, args, kwargs))
        return response

    def _describe_body(self, response: requests.Response, sent: Sent) -> None:
        """Do nothing: `send` observes the body itself."""


def _begin(guard: Guard, request: requests.PreparedRequest) -> Call:
    """Admit a request, and give a rejection the types of requests."""
    try:
        return guard.begin()
    except CircuitOpenError as error:
        raise CircuitOpenConnectionError(error.name, error.retry_after, request) from error
    except BulkheadFullError as error:
        raise BulkheadFullConnectionError(error.name, error.limit, request) from error
    except RateLimitedError as error:
        raise RateLimitedConnectionError(error.name, error.retry_after, request) from error


class _SentRequest:
    """A request that has been sent, until the body of its response has been read."""

    __slots__ = ("_call", "_observer", "answered", "deadline")

    def __init__(self, call: Call, observer: CallObserver) -> None:
        self._call = call
        self._observer = observer
        #: deadline of the connection of the body
        self.deadline = Deadline()
        #: True after status and headers have been received
        self.answered = False

    def end(self, error: BaseException | None) -> None:
        """Count the outcome, unless the status has decided it, and end the observation."""
        if error is None:
            self._call.succeed()
        elif isinstance(error, BodyTooLargeError):
            answered(self._call)
        else:
            self._call.fail(error)
        self._observer.ended(error)

    def pause(self) -> None:
        """Stop deadline and call: the time of the caller does not count."""
        self.deadline.pause()
        self._call.pause(answered=self.answered)

    def resume(self) -> None:
        """Continue: the caller waits for the dependency again."""
        self.deadline.resume()
        self._call.resume()


def origin(request: requests.PreparedRequest) -> str:
    """Return scheme, host and port of a request, as in `https://example.com:443`, shortened if it is very long.

    Raises InvalidURL, as requests does, for a URL without a host.
    """
    try:
        parts = urlsplit(request.url or "")
        return _origin(parts.scheme, parts.netloc)
    except ValueError as error:  # from parsing the URL, or from an invalid host
        raise InvalidURL(error, request=request) from error


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> str:
    parts = urlsplit(f"//{netloc}")
    host = parts.hostname
    if not host:
        raise ValueError("No host specified.")
    if " " in host or not host.isprintable():  # urllib3 1.26 would connect first
        raise ValueError("The host is invalid.")
    scheme = scheme or "http"  # as requests does
    if scheme in PORTS:
        host.encode("idna")  # as the lookup does. Raises UnicodeError
    if ":" not in host:
        host = parse_url(f"//{host}").host or host
    return origin_name(scheme, host, parts.port)
