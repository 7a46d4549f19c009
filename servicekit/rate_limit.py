"""How many requests one client may send: `server.rate_limit`, for all workers of a service together.

A client is an address, or a network where it has one (IPv6), that is not this host: what runs here is the platform
itself, and whoever tests it. Behind proxies the address is the one that they tell.
"""

import ipaddress
import math

from flask import Flask, current_app, request
from werkzeug.middleware.proxy_fix import ProxyFix

from cb.integrations.flask import Problem
from cb.integrations.flask.trusted_addresses import parse_address

from .settings import Settings

# Whoever asks these must know it when it matters most.
_FREE = ("/metrics", "/api/v1/health")


def init_app(app: Flask) -> None:
    """Limit the requests of each client."""
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


def count(caller: str) -> None:
    """Count a request of a caller. Raises Problem if it is one too many."""
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
        count(caller)


def _client(address: str) -> str | None:
    """Return who is counted together: None for this host, and one for all whose address cannot be told."""
    found = parse_address(address)
    if found is None:
        return "unknown"
    if found.is_loopback:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found), 64), strict=False).network_address)
    return str(found)
