"""An adapter that puts breakers before the requests of any `requests.Session`."""

from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import requests

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, Registry
from cb.bulkhead import check
from cb.exchange import Exchange, observe
from cb.tally import Tally

from .answer import FAILING, retry_after
from .body import watch
from .deadline import DeadlineAdapter, PoolTimeoutError
from .timed import Limit, limit_of, within

#: seconds that an exchange may take, its body included, and bytes that a body may have
DEADLINE, LARGEST = 30.0, 10 << 20
#: connections kept per host: at least the threads of a worker
POOL = 64
#: characters that the name of a breaker may have
_LONGEST = 128


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
        self._bulkheads: dict[str, Bulkhead] = {}
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
                response = super().send(request, *args, **kwargs)
        except BaseException as error:
            # InvalidURL and its like: nothing was sent, and the dependency has no part in it. InvalidHeader is a
            # ValueError too, but here it is of the answer: one of the request is found before.
            # Connections that others hold are no more its business.
            unsent = isinstance(error, ValueError) and not isinstance(error, requests.exceptions.InvalidHeader)
            if unsent or isinstance(error, PoolTimeoutError):
                breaker.abandon(call)
            else:
                breaker.finish(call, error)
            raise
        exchange.answered(response.status_code)
        answered = _Answered(breaker, call, exchange, limit_of(response))
        if response.status_code in self._failing:
            answered.settle(FailingStatus(response))
        watch(response.raw, self._largest, answered)
        return response

    def _guard(self, name: str) -> CircuitBreaker | Bulkhead:
        breaker = self._registry.get(name)
        limit, wait = self._places
        if limit is None:
            return breaker
        return self._bulkheads.get(name) or self._bulkheads.setdefault(name, Bulkhead(breaker, limit, wait))

    def _limit(self, breaker: CircuitBreaker | Bulkhead, call: Tally) -> float | None:
        limit = breaker.config.probe_timeout if call.probe else None
        if limit is None or self._deadline is None:
            return limit or self._deadline
        return min(limit, self._deadline)


class _Answered:
    """A call that has been answered, until the body has been read."""

    __slots__ = ("_breaker", "_call", "_exchange", "_limit")

    def __init__(self, breaker: CircuitBreaker | Bulkhead, call: Tally, exchange: Exchange, limit: Limit) -> None:
        self._breaker = breaker
        #: None once it has been counted: then it is another's
        self._call: Tally | None = call
        self._exchange = exchange
        self._limit = limit

    def settle(self, error: BaseException | None) -> None:
        """Count how it ended, for the first time or again."""
        call, self._call = self._call, None
        if call:
            self._breaker.finish(call, error)

    def end(self, error: BaseException | None) -> None:
        """Note how the body ended."""
        self.settle(error)
        self._exchange.ended(error)

    def pause(self) -> None:
        """Let the caller take his time: neither the deadline nor the breaker has a part in it."""
        self._limit.pause()
        if self._call:
            self._breaker.pause(self._call)

    def resume(self) -> None:
        """Note that the caller waits for the body again."""
        self._limit.resume()
        if self._call:
            self._breaker.resume(self._call)


def origin(request: requests.PreparedRequest) -> str:
    """Return scheme, host and port of a request, as in `https://example.com:443`, shortened if it is very long."""
    parts = urlsplit(request.url or "")
    return _origin(parts.scheme, parts.netloc)


@lru_cache(maxsize=1024)
def _origin(scheme: str, netloc: str) -> str:
    parts = urlsplit(f"{scheme}://{netloc}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    name = f"{parts.scheme}://{host}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme)}"
    # A host may be longer than the name of a breaker.
    return name if len(name) <= _LONGEST else f"{name[:80]}~{sha256(name.encode()).hexdigest()[:32]}"
