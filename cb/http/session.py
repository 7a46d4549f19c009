"""Sessions of requests that go where they are told and nowhere else."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from cb import ConfigError, Registry

from .adapter import MAX_BODY_BYTES, TIMEOUT, CircuitBreakerAdapter
from .responses import FAILURE_STATUSES

_DAY = 86_400.0


def guarded_session(
    registry: Registry,
    name: str | Callable[[requests.PreparedRequest], str] | None = None,
    *,
    timeout: float = TIMEOUT,
    max_body_bytes: int = MAX_BODY_BYTES,
    failure_statuses: Collection[int] = FAILURE_STATUSES,
) -> requests.Session:
    """Return a session with breakers before all its requests, as a `CircuitBreakerAdapter` has them.

    Nothing of it comes from the environment: no proxy, no .netrc, no bundle of certificates (set `verify`). A redirect
    is followed only by a call with `allow_redirects=True`, each hop through the breaker of its own host. Nothing is
    tried again. Each exchange ends after `timeout` seconds, whatever timeout the call has. Raises ConfigError.
    """
    timeout = seconds("timeout", timeout)
    return confined(
        CircuitBreakerAdapter(
            registry, name, timeout=timeout, max_body_bytes=max_body_bytes, failure_statuses=failure_statuses
        )
    )


def confined(adapter: HTTPAdapter) -> requests.Session:
    """Return a session whose requests all go through an adapter."""
    session = _Confined()
    session.trust_env = False  # else a proxy of the environment gets even the calls to 127.0.0.1
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def seconds(field: str, value: float) -> float:
    """Return a limit of time that makes sense. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _DAY:
        raise ConfigError(field, "be a number of seconds above 0, at most a day", value)
    return float(value)


class _Confined(requests.Session):
    """Follows no redirect unasked: it may lead from the service that was meant to one behind the same firewall."""

    def get(self, url: Any, *args: Any, **options: Any) -> requests.Response:
        return self.request("GET", url, *args, **options)

    def options(self, url: Any, **options: Any) -> requests.Response:
        return self.request("OPTIONS", url, **options)

    def request(self, *args: Any, **options: Any) -> requests.Response:
        return super().request(*args, **{"allow_redirects": False, **options})

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        return super().send(request, **{"allow_redirects": False, **options})

    def resolve_redirects(self, *args: Any, **options: Any) -> Iterator[Any]:
        # To know what would come next, requests reads the whole body of a redirect that nobody follows, however large,
        # and fails of a Location that cannot be read.
        return iter(()) if options.get("yield_requests") else super().resolve_redirects(*args, **options)
