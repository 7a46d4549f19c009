"""Who may do what: operators and other services show a token; without one, whoever is on this host may."""

import hmac
from collections.abc import Callable

from flask import current_app, request

from cb.integrations.flask.extension_state import circuit_breakers

from .correlation import forwarded_headers
from .problems import Problem
from .settings import Settings
from .trusted_hosts import is_from_this_host


def require_operator() -> None:
    """Let nobody else steer a service or make it fail. Raises Problem."""
    token = circuit_breakers().token
    _require(token, "operators")
    if token is None and not is_from_this_host():
        raise unauthorized("this needs the token of the operators, and none is set: only this host may do without")


def may_operate_without_token() -> bool:
    """Return whether who sends the running request needs no token to steer."""
    return circuit_breakers().token is None and is_from_this_host()


def require_service() -> None:
    """Let nobody but the platform's services use what is there for them. Raises Problem."""
    settings: Settings = current_app.extensions["settings"]
    _require(settings.service_token, "services")


def service_headers(settings: Settings) -> Callable[[], dict[str, str]]:
    """Return what makes the headers of calls to other services, outside of a request too."""
    token = settings.service_token
    if token is None:
        return forwarded_headers
    return lambda: {**forwarded_headers(), "Authorization": f"Bearer {token}"}


def shown() -> str | None:
    """Return the token that the running request shows, None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def unauthorized(detail: str) -> Problem:
    """Return what a request gets that shows no token, or a wrong one."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _require(token: str | None, whose: str) -> None:
    if token is not None and not hmac.compare_digest((shown() or "").encode(), token.encode()):
        raise unauthorized(f"this needs the token of the {whose}")
