"""An adapter that puts breakers before the requests of any `requests.Session`."""

from collections.abc import Callable, Collection
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, Registry
from cb.bulkhead import check
from cb.exchange import UNSEEN, Exchange, observe
from cb.names import fitting_name
from cb.tally import Tally

from .answer import FAILING, retry_after
from .body import Body, Settle
from .deadline import DeadlineAdapter, within

#: seconds that an exchange may take, its body included, and bytes that a body may have
DEADLINE, LARGEST = 30.0, 10 << 20
#: connections kept per host: at least the threads of a worker
POOL = 64


class FailingStatus(Exception):
    """A response that counts as failure."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"status {response.status_code}")
        #: seconds that the dependency asks to be left alone
        self.retry_after = retry_after(response.headers)


class CircuitOpenConnectionError(CircuitOpenError, requests.exceptions.ConnectionError):
    """A request that a `CircuitBreakerAdapter` refused, for those who catch what requests raises."""

    def __init__(self, name: str, retry_after: float | None, request: requests.PreparedRequest) -> None:
        CircuitOpenError.__init__(self, name, retry_after)
        self.request = request
        self.response = None

    def __reduce__(self) -> tuple[Any, ...]:  # else a pool of processes could send it, but not receive it
        return type(self), (self.name, self.retry_after, self.request)


class BulkheadFullConnectionError(BulkheadFullError, requests.exceptions.ConnectionError):
    """A request for which a `CircuitBreakerAdapter` had no slot, for those who catch what requests raises."""

    def __init__(self, name: str, limit: int, request: requests.PreparedRequest) -> None:
        BulkheadFullError.__init__(self, name, limit)
        self.request = request
        self.response = None


class CircuitBreakerAdapter(DeadlineAdapter):
    """Puts breakers before the requests of a session: `session.mount("https://", CircuitBreakerAdapter(registry))`.

    Each scheme, host and port has its own breaker, or `name` says which: a name, or a function of the request. A
    response with one of the `failing` statuses counts as failure and is returned all the same. Any other counts when
    its body has been read to its end, or closed before: a body that breaks off, or drips, or is longer than `largest`
    bytes, is a failure. `deadline` is seconds for the whole exchange, the body included; a probe has at most its
    breaker's `probe_timeout`. A request that cannot be sent as it is counts as nothing. `limit` gives each breaker a
    bulkhead: so many exchanges at once, bodies included, and one more waits up to `wait` seconds.
    """

    def __init__(
        self,
        registry: Registry,
        name: str | Callable[[requests.PreparedRequest], str] | None = None,
        *,
        deadline: float | None = DEADLINE,
        largest: int = LARGEST,
        failing: Collection[int] = FAILING,
        limit: int | None = None,
        wait: float = 0.0,
        pool_maxsize: int = POOL,
        **options: Any,
    ) -> None:
        self._registry = registry
        self._name = name or origin
        self._deadline = deadline
        self._largest = largest
        self._failing = frozenset(failing)
        if limit is not None:
            check(limit, wait)
        self._places = limit, wait
        super().__init__(pool_maxsize=pool_maxsize, **options)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. Raises CircuitOpen- and BulkheadFullConnectionError, and what HTTPAdapter raises."""
        breaker = self._guard(self._name if isinstance(self._name, str) else self._name(request))
        try:
            call = breaker.begin()
        except CircuitOpenError as error:
            raise CircuitOpenConnectionError(error.name, error.retry_after, request) from error
        except BulkheadFullError as error:
            raise BulkheadFullConnectionError(error.name, error.limit, request) from error
        exchange = observe(breaker, call, request.method or "", request.url or "", request.headers)
        try:
            with exchange, within(self._limit(breaker, call)):
                response = HTTPAdapter.send(self, request, *args, **kwargs)
        except BaseException as error:
            # InvalidURL and its like: nothing was sent, and the dependency has no part in it. InvalidHeader is a
            # ValueError too, but here it is of the answer: one of the request is found before.
            if isinstance(error, ValueError) and not isinstance(error, requests.exceptions.InvalidHeader):
                breaker.abandon(call)
            else:
                breaker.finish(call, error)
            raise
        exchange.answered(response.status_code)
        settle: Settle = partial(breaker.finish, call)
        if response.status_code in self._failing:
            settle(FailingStatus(response))
            settle = _settled
        if exchange is not UNSEEN:
            settle = partial(_end, exchange, settle)
        response.raw = Body(response.raw, self._largest, settle)
        return response

    def _guard(self, name: str) -> CircuitBreaker | Bulkhead:
        breaker = self._registry.get(fitting_name(name))  # a request is not refused for what it is called
        limit, wait = self._places
        if limit is None:
            return breaker
        return Bulkhead(breaker, limit, wait)  # not kept: there may be very many origins

    def _limit(self, breaker: CircuitBreaker | Bulkhead, call: Tally) -> float | None:
        limit = breaker.config.probe_timeout if call.probe else None
        if limit is None or self._deadline is None:
            return limit or self._deadline
        return min(limit, self._deadline)


def _settled(_: BaseException | None) -> None:
    """Stand for the end of a body that changes nothing more."""


def _end(exchange: Exchange, settle: Settle, error: BaseException | None) -> None:
    settle(error)
    exchange.ended(error)


def origin(request: requests.PreparedRequest) -> str:
    """Return scheme, host and port of a request, as in `https://example.com:443`, shortened if it is very long."""
    parts = urlsplit(request.url or "")
    return _origin(parts.scheme, parts.netloc)


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> str:
    parts = urlsplit(f"{scheme}://{netloc}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    name = f"{parts.scheme}://{host}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme)}"
    return fitting_name(name)  # a host may be longer than the name of a breaker
