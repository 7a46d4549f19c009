"""Request ids: the client's `X-Request-ID` if it is well formed, otherwise a new one."""

import re
import secrets

from flask import g, has_request_context, request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def choose_request_id(received: str | None) -> str:
    """Return the received id if it is well formed, otherwise a new one."""
    return received if received and _REQUEST_ID.fullmatch(received) else secrets.token_hex(8)


def request_id() -> str:
    """Return the id of the current request; outside of a request, a new id."""
    if not has_request_context():
        return choose_request_id(None)
    if "request_id" not in g:
        g.request_id = choose_request_id(request.headers.get("X-Request-ID"))
    chosen: str = g.request_id
    return chosen
