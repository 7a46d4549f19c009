"""Who may steer a service and make it fail: whoever shows the token; without one, whoever is on this host."""

import hmac

from flask import current_app, request

from .problems import Problem
from .settings import Settings

_HERE = ("127.0.0.1", "localhost")


def require_operator() -> None:
    """Let nobody else pass. Raises Problem."""
    settings: Settings = current_app.extensions["settings"]
    if settings.admin_token is None:
        # A page of others whose name leads to this host is not on it, though the browser that shows it is.
        if request.host.partition(":")[0].lower() not in _HERE:
            raise Problem(403, "forbidden", f"without CB_ADMIN_TOKEN this is for {' or '.join(_HERE)} only")
        return
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), settings.admin_token.encode()):
        headers = {"WWW-Authenticate": "Bearer"}
        raise Problem(401, "unauthorized", "this needs the token of the operators", headers=headers)
