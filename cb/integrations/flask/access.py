"""Authorization of operators and of readers: a bearer token, or a request from this host."""

import hmac

from flask import request

from .extension_state import circuit_breakers
from .problem import Problem
from .trusted_addresses import is_from_this_host


def require_operator() -> None:
    """Require the operators' token, or, if none is configured, a request from this host. Raises Problem (401)."""
    token = circuit_breakers().token
    require_token(token, "operators")
    if token is None and not is_from_this_host():
        raise unauthorized("this needs the token of the operators, and none is set: only this host may do without")


def may_operate() -> bool:
    """Return True if the current request may control breakers."""
    return is_from_this_host() if circuit_breakers().token is None else _has_token()


def may_read() -> bool:
    """Return True if the current request may read status, page and events."""
    return circuit_breakers().public or is_from_this_host() or _has_token()


def require_reader() -> None:
    """Require a request from this host, or one with the operators' token, unless all may read. Raises Problem (403)."""
    if not may_read():
        detail = (
            "the circuit breakers are shown to requests from this host only: send the token of the operators, "
            "CB_ADMIN_TOKEN of the app, as `Authorization: Bearer TOKEN`, or open them to all by public=True"
        )
        raise Problem(403, "not-public", detail)


def require_token(token: str | None, owner: str) -> None:
    """Require a token; None requires nothing. Raises Problem (401)."""
    if token is not None and not _is_sent(token):
        raise unauthorized(f"this needs the token of the {owner}")


def bearer_token() -> str | None:
    """Return the bearer token of the current request, None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _has_token() -> bool:
    token = circuit_breakers().token
    return token is not None and _is_sent(token)


def _is_sent(token: str) -> bool:
    """Compare a token in constant time."""
    return hmac.compare_digest((bearer_token() or "").encode(), token.encode())


def unauthorized(detail: str) -> Problem:
    """Return a 401 with `WWW-Authenticate: Bearer`."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
