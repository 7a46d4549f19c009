"""Authorization of operators and of readers: a bearer token, or a request from this host."""

import hmac

from .extension_state import ExtensionState
from .problem import Problem
from .request import Request
from .trusted_addresses import is_from_this_host


def require_operator(state: ExtensionState, request: Request) -> None:
    """Require the operators' token, or, if none is configured, a request from this host. Raises Problem (401)."""
    require_token(request, state.token, "operators")
    if state.token is None and not is_from_this_host(request):
        raise unauthorized("this needs the token of the operators, and none is set: only this host may do without")


def may_operate(state: ExtensionState, request: Request) -> bool:
    """Return True if a request may control breakers."""
    return is_from_this_host(request) if state.token is None else _has_token(state, request)


def may_read(state: ExtensionState, request: Request) -> bool:
    """Return True if a request may read status, page and events."""
    return state.public or is_from_this_host(request) or _has_token(state, request)


def require_reader(state: ExtensionState, request: Request) -> None:
    """Require a request from this host, or one with the operators' token, unless all may read. Raises Problem (403)."""
    if not may_read(state, request):
        detail = (
            "the circuit breakers are shown to requests from this host only: send the token of the operators, "
            "CB_ADMIN_TOKEN of the app, as `Authorization: Bearer TOKEN`, or open them to all by public=True"
        )
        raise Problem(403, "not-public", detail)


def require_token(request: Request, token: str | None, owner: str) -> None:
    """Require a token; None requires nothing. Raises Problem (401)."""
    if token is not None and not _is_sent(request, token):
        raise unauthorized(f"this needs the token of the {owner}")


def bearer_token(request: Request) -> str | None:
    """Return the bearer token of a request, None without one."""
    scheme, _, token = (request.headers.get("Authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _has_token(state: ExtensionState, request: Request) -> bool:
    return state.token is not None and _is_sent(request, state.token)


def _is_sent(request: Request, token: str) -> bool:
    """Compare a token in constant time."""
    return hmac.compare_digest((bearer_token(request) or "").encode(), token.encode())


def unauthorized(detail: str) -> Problem:
    """Return a 401 with `WWW-Authenticate: Bearer`."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
