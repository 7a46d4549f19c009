"""Errors as answers: `application/problem+json` (RFC 9457), whatever goes wrong."""

import json
import logging
import math
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from cb.errors import BulkheadFullError, CircuitOpenError, LedgerBusyError
from cb.portable import PortableError

from .correlation import request_id

log = logging.getLogger(__name__)

#: seconds that clients are asked to wait for a circuit that an operator holds open
_HELD_OPEN = 60


class Problem(PortableError):  # its name on the wire
    """An answer that says what is wrong. `facts` become members of its body, as do those of `more`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        *more: Mapping[str, Any],
        **facts: Any,
    ) -> None:
        headers, facts = dict(headers or {}), dict(ChainMap(facts, *map(dict, more)))
        super().__init__(status, code, detail, headers, facts)
        #: of HTTP
        self.status = status
        #: what programs tell problems apart by, such as "insufficient-funds"
        self.code = code
        #: a sentence for people
        self.detail = detail
        #: of the answer
        self.headers = headers
        #: members of its body
        self.facts = facts

    def response(self, request_id: str) -> Response:
        """Return the answer to a request."""
        body = {
            "type": f"/problems/{self.code}",
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            **self.facts,
        }
        text = json.dumps(body, default=str) + "\n"
        return Response(text, self.status, self.headers, content_type="application/problem+json")


def init_app(app: Flask) -> None:
    """Make every error of an app a problem."""
    answer_refusals(app)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def answer_refusals(app: Flask) -> None:
    """Make what breakers refuse a problem, where an app has no answer of its own; its other errors stay as they are."""
    known = app.error_handler_spec[None][None]
    for error, handler in _REFUSALS.items():
        if error not in known:
            app.register_error_handler(error, handler)


def _answer(problem: Problem) -> Response:
    return problem.response(request_id())


def _circuit_open(error: CircuitOpenError) -> Response:
    wait = _HELD_OPEN if error.retry_after is None else max(math.ceil(error.retry_after), 1)
    return _answer(
        Problem(
            503,
            "circuit-open",
            f"{error.name} is not called while its circuit is open",
            headers={"Retry-After": str(wait)},
            breaker=error.name,
            retry_after_seconds=wait,
        )
    )


def _bulkhead_full(error: BulkheadFullError) -> Response:
    wait = max(math.ceil(error.retry_after), 1)
    return _answer(
        Problem(
            429,
            "bulkhead-full",
            f"{error.name} has as many calls at once as it may have",
            headers={"Retry-After": str(wait)},
            breaker=error.name,
            limit=error.limit,
            retry_after_seconds=wait,
        )
    )


def _ledger_busy(_: LedgerBusyError) -> Response:
    detail = "the state that all workers share is locked by a process that does not go on"
    return _answer(Problem(503, "ledger-busy", detail, headers={"Retry-After": "1"}))


_REFUSALS: dict[type[Exception], Callable[[Any], Response]] = {
    Problem: _answer,
    CircuitOpenError: _circuit_open,
    BulkheadFullError: _bulkhead_full,
    LedgerBusyError: _ledger_busy,
}


def _http(error: HTTPException) -> Any:
    status = error.code or 500
    if error.response is not None or status < 400:
        return error  # a redirect, or an answer that is complete
    headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
    if isinstance(error, NotFound):
        detail = f"there is nothing at {request.path}"
    elif isinstance(error, MethodNotAllowed):
        detail = f"{request.method} is not possible at {request.path}, only {headers.get('Allow')}"
    else:
        detail = error.description or error.name
    code = error.name.lower().replace(" ", "-")
    return _answer(Problem(status, code, detail, headers=headers))


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _answer(Problem(500, "internal-error", "this is our fault; the log has more under this request_id"))
