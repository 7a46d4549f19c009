"""The guard, the limits and the failure statuses of the requests of a client."""

from collections.abc import Callable, Collection
from typing import Any

from cb import Bulkhead, Call, CircuitBreaker, ConfigError, Duration, Guard, Registry
from cb.bulkhead import check
from cb.ledger.names import fitting_name

from .observer import probe_timeout_of
from .timeouts import body_limit, seconds


class Guarding:
    """Selects the guard of each request: one for each origin by default, the one with a name, or one for all.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests.
        name: Name of the breaker in the registry, or a function of the request that returns it.
        timeout: Time limit for a request and its response; None for no limit.
        max_body_bytes: Largest body of a response; None for no limit.
        failure_statuses: Statuses that count as failures.
        limit: Number of requests that may run at once through each breaker; None for no bulkhead.
        wait: Time to wait for a place in the bulkhead.

    Raises:
        ConfigError: A parameter is invalid, or `name` or `limit` is given for a guard that is no registry.
    """

    __slots__ = ("_bulkhead", "_guard", "_has_names", "_name", "failure_statuses", "max_body_bytes", "timeout")

    def __init__(
        self,
        guard: Registry | Guard,
        name: str | Callable[[Any], str] | None,
        *,
        timeout: Duration | None,
        max_body_bytes: int | None,
        failure_statuses: Collection[int],
        limit: int | None,
        wait: Duration,
    ) -> None:
        if not _is_registry(guard) and (name is not None or limit is not None):
            raise ConfigError("name and limit", "be given with a registry alone", (name, limit))
        self._guard: Any = guard
        self._has_names = _is_registry(guard)
        self._name = name if name is None or callable(name) else fitting_name(_checked(name))
        #: seconds for a request and its response, body included; None for no limit
        self.timeout = None if timeout is None else seconds("timeout", timeout)
        #: bytes of the longest body; None for no limit
        self.max_body_bytes = None if max_body_bytes is None else body_limit(max_body_bytes)
        #: statuses that count as failures
        self.failure_statuses = frozenset(failure_statuses)
        self._bulkhead = None if limit is None else (limit, check(limit, wait))

    def __repr__(self) -> str:
        name = "each origin" if self._name is None else repr(self._name)
        return f"{name} in {self._guard!r}" if self._has_names else repr(self._guard)

    def guard_of(self, request: Any, origin: str) -> Guard:
        """Return the guard of a request to an origin. Raises ConfigError for a name that is not one."""
        if not self._has_names:
            return self._guard  # type: ignore[no-any-return]  # checked at its creation
        name = origin if self._name is None else self._name
        if callable(name):
            name = fitting_name(_checked(name(request)))  # shortened: no request fails because of its name
        breaker: CircuitBreaker = self._guard.get(name)
        # Not kept: there may be very many origins.
        return breaker if self._bulkhead is None else Bulkhead(breaker, *self._bulkhead)

    def limit_of(self, guard: Guard, call: Call) -> float | None:
        """Return the seconds for a request that was admitted; None for no limit."""
        if not call.probe:
            return self.timeout
        limit = probe_timeout_of(guard)
        if limit is None or self.timeout is None:
            return limit or self.timeout
        return min(limit, self.timeout)


def _is_registry(guard: Registry | Guard) -> bool:
    """Return True for what has a breaker for each name: a registry, or the one of the current app of an extension."""
    return hasattr(guard, "get")


def _checked(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ConfigError("name", "be a string, or a function of the request that returns one", name)
    return name
