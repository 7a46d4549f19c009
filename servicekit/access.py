"""Authorization of the platform's services, and the headers with which they call each other."""

from collections.abc import Callable

from flask import current_app

from cb.integrations.flask.current import require_operator, require_token

from .correlation import forwarded_headers
from .settings import Settings

__all__ = ["require_operator", "require_service", "service_headers"]


def require_service() -> None:
    """Require the token that services share, if one is configured. Raises Problem (401)."""
    settings: Settings = current_app.extensions["settings"]
    require_token(settings.service_token, "services")


def service_headers(settings: Settings) -> Callable[[], dict[str, str]]:
    """Return a function that returns the headers of a call to another service, also outside of a request."""
    token = settings.service_token
    if token is None:
        return forwarded_headers
    return lambda: {**forwarded_headers(), "Authorization": f"Bearer {token}"}
