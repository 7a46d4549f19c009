"""Authorization of operators: a bearer token, or, without one, a request from this host."""

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


def may_operate_without_token() -> bool:
    """Return True if the current request may control breakers without a token."""
    return circuit_breakers().token is None and is_from_this_host()


def require_token(token: str | None, owner: str) -> None:
    """Require a token, compared in constant time; None requires nothing. Raises Problem (401)."""
    if token is not None and not hmac.compare_digest((bearer_token() or "").encode(), token.encode()):
        raise unauthorized(f"this needs the token of the {owner}")


def bearer_token() -> str | None:
    """Return the bearer token of the current request, None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def unauthorized(detail: str) -> Problem:
    """Return a 401 with `WWW-Authenticate: Bearer`."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
