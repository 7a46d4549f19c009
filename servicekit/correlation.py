"""Ids that are passed on between services: `X-Request-ID`, and the `traceparent` and `tracestate` of the W3C."""

import re
import secrets
from collections.abc import Callable

from flask import Flask, Response, current_app, has_request_context, request

from cb.integrations.flask import request_id

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})", re.ASCII)
_TRACESTATE = re.compile(r"[!-~][ -~]{0,511}", re.ASCII)


def init_app(app: Flask) -> None:
    """Add `X-Request-ID` to every response of an app."""
    app.after_request(_add_request_id)


def trace_ids() -> dict[str, str]:
    """Return the ids of the current request's trace: `trace_id`, and `span_id` if spans are made.

    A request without a trace gets none: services further on would take it for a sampling decision.
    """
    if not has_request_context():
        return {}
    current: Callable[[], dict[str, str]] = current_app.extensions.get("tracing", dict)
    if ids := current():
        return ids
    trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    return {"trace_id": trace[1]} if trace else {}


def forwarded_headers() -> dict[str, str]:
    """Return the headers that connect a call to another service with the current request."""
    headers = {"X-Request-ID": request_id()}
    if has_request_context() and (trace := _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))):
        headers["traceparent"] = f"00-{trace[1]}-{secrets.token_hex(8)}-{trace[2]}"
        if state := _TRACESTATE.fullmatch(request.headers.get("tracestate", "")):
            headers["tracestate"] = state[0]
    return headers


def _add_request_id(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    return response
