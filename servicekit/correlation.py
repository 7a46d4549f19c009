"""Ids that follow a request through all services: `X-Request-ID`, and the `traceparent` and `tracestate` of the W3C."""

import re
import secrets
from collections.abc import Callable

from flask import Flask, Response, current_app, g, has_request_context, request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})", re.ASCII)
_TRACESTATE = re.compile(r"[!-~][ -~]{0,511}", re.ASCII)


def choose(received: str | None) -> str:
    """Return the id that a request came with if it is well formed, else a new one."""
    return received if received and _REQUEST_ID.fullmatch(received) else secrets.token_hex(8)


def init_app(app: Flask) -> None:
    """Give every answer of an app the id of its request."""
    app.after_request(_tell)


def request_id() -> str:
    """Return the id of the running request; outside of one, a new id."""
    if not has_request_context():
        return choose(None)
    if "request_id" not in g:
        g.request_id = choose(request.headers.get("X-Request-ID"))
    chosen: str = g.request_id
    return chosen


def trace_ids() -> dict[str, str]:
    """Return the ids by which the running request's trace is found: `trace_id`, with `span_id` where spans are made.

    None is made up where the request came without: services further on would take it for a decision whether to sample.
    """
    if not has_request_context():
        return {}
    current: Callable[[], dict[str, str]] = current_app.extensions.get("tracing", dict)
    if ids := current():
        return ids
    trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return {"trace_id": trace[1]} if trace else {}


def forwarded_headers() -> dict[str, str]:
    """Return the headers by which calls to other services belong to the running request."""
    headers = {"X-Request-ID": request_id()}
    if has_request_context() and (trace := _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))):
        headers["traceparent"] = f"00-{trace[1]}-{secrets.token_hex(8)}-{trace[2]}"
        if state := _TRACESTATE.fullmatch(request.headers.get("tracestate", "")):
            headers["tracestate"] = state[0]
    return headers


def _tell(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    return response
