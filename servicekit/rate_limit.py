"""The rate limit of each client: `server.rate_limit`, for all workers of a service together.

A client is an IPv4 address or a /64 network of IPv6. Requests from this host are not limited: they come from the
platform itself. Behind trusted proxies the address is the one that they forward.
"""

import ipaddress
import math

from flask import Flask, current_app, request
from werkzeug.middleware.proxy_fix import ProxyFix

from cb.integrations.flask import Problem
from cb.integrations.operations.trusted_addresses import parse_address

from .settings import Settings

# Monitoring must work under overload too.
_FREE = ("/metrics", "/api/v1/health")


def init_app(app: Flask) -> None:
    """Limit the rate of requests of each client."""
    settings: Settings = app.extensions["settings"]
    if settings.proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's documented way to wrap an app
            app.wsgi_app, x_for=settings.proxies, x_proto=settings.proxies, x_host=0
        )
    if settings.rate_limit is None:
        return
    from cb.resilience import RateLimit

    file = settings.state_dir.absolute() / f"{settings.name}.rate"
    app.extensions["flow"] = RateLimit(settings.rate_limit, f"file://{file}", name=settings.name)
    app.before_request(_count)


def count_request(caller: str) -> None:
    """Count a request of a caller. Raises Problem (429) above the limit."""
    limit = current_app.extensions.get("flow")
    if limit is None:
        return
    from cb.resilience import RateLimitedError

    try:
        limit.acquire(caller)
    except RateLimitedError as error:
        wait = max(math.ceil(error.retry_after), 1)
        raise Problem(
            429,
            "rate-limited",
            "these are more requests than one client may send",
            headers={"Retry-After": str(wait)},
            retry_after_seconds=wait,
        ) from error


def _count() -> None:
    if request.path.startswith(_FREE):
        return
    caller = _client(request.remote_addr or "")
    if caller is not None:
        count_request(caller)


def _client(address: str) -> str | None:
    """Return the caller of an address: None for this host, "unknown" for invalid addresses."""
    found = parse_address(address)
    if found is None:
        return "unknown"
    if found.is_loopback:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found), 64), strict=False).network_address)
    return str(found)
