"""Sessions of requests that follow no redirect and read no environment unless asked to."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from cb import Duration, Guard, Registry

from .adapter import CircuitBreakerAdapter
from .responses import FAILURE_STATUSES
from .timeouts import MAX_BODY_BYTES, TIMEOUT, seconds


def guarded_session(
    guard: Registry | Guard,
    name: str | Callable[[requests.PreparedRequest], str] | None = None,
    *,
    timeout: Duration = TIMEOUT,
    max_body_bytes: int = MAX_BODY_BYTES,
    failure_statuses: Collection[int] = FAILURE_STATUSES,
) -> requests.Session:
    """Return a `requests.Session` whose requests all pass through breakers, as with a `CircuitBreakerAdapter`.

    It takes nothing from the environment: no proxy, no .netrc, no certificate bundle (set `verify`). A redirect is
    followed only in a call with `allow_redirects=True`, each hop through the breaker of its own host. Nothing is
    retried. Close the session after use, as any session: it is a context manager.

    Args:
        guard: Registry of the breakers; or a breaker, a bulkhead, or a policy without retry, cache and fallback, for
            all requests.
        name: Name of the breaker in the registry, or a function of the request that returns it; by default each origin
            has one.
        timeout: Time limit for a request and its response, body included, in seconds or as a timedelta. The
            `timeout` of a call does not extend it.
        max_body_bytes: Largest body of a response.
        failure_statuses: Statuses that count as failures; responses with them are returned.

    Raises:
        ConfigError: A parameter is invalid.
    """
    limit = seconds("timeout", timeout)
    return confined(
        CircuitBreakerAdapter(
            guard, name, timeout=limit, max_body_bytes=max_body_bytes, failure_statuses=failure_statuses
        )
    )


def confined(adapter: HTTPAdapter) -> requests.Session:
    """Return a session whose requests all pass through an adapter."""
    session = _GuardedSession()
    session.trust_env = False  # a proxy of the environment would get even the calls to 127.0.0.1
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


class _GuardedSession(requests.Session):
    """A session that follows no redirect by default: it may lead to another service behind the same firewall."""

    def get(self, url: Any, *args: Any, **options: Any) -> requests.Response:
        return self.request("GET", url, *args, **options)

    def options(self, url: Any, **options: Any) -> requests.Response:
        return self.request("OPTIONS", url, **options)

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{"allow_redirects": False, **options})

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        return super().send(request, **{"allow_redirects": False, **options})

    def resolve_redirects(self, *args: Any, **options: Any) -> Iterator[Any]:
        # To fill `Response.next`, requests reads the whole body of a redirect that is not followed, however large, and
        # raises for a Location that it cannot parse.
        return iter(()) if options.get("yield_requests") else super().resolve_redirects(*args, **options)
