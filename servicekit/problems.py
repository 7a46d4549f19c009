"""Errors as answers: `application/problem+json` (RFC 9457), whatever goes wrong."""

import json
import math
from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from cb.errors import BulkheadFullError, CircuitError, CircuitOpenError, LedgerBusyError
from cb.log import Log
from cb.pickling import PortableError
from cb.resilience.errors import RateLimitedError

from .correlation import request_id

log = Log(__name__)

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
    """Make what breakers refuse a problem, where an app has no answer of its own; its other errors stay as they are.

    Extensions that replace the app's error handling (Flask-RESTful, Flask-RESTX) know nothing of these errors and would
    make them 500: they are answered before such an extension sees them, unless it has a handler for them.
    """
    known = app.error_handler_spec[None][None]
    for error in _REFUSALS:
        if error not in known:
            app.register_error_handler(error, _refused)
    # Instance attributes, as the extensions set: the order in which they are set does not matter.
    app.preprocess_request = _answering(app, app.preprocess_request)  # type: ignore[method-assign]  # as said
    app.dispatch_request = _answering(app, app.dispatch_request)  # type: ignore[method-assign]  # as said


def _answering(app: Flask, run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step of a request whose refusals the app itself answers, by its own handlers or by ours."""
    refusals = tuple(_REFUSALS)

    def answered(*context: Any) -> Any:
        try:
            return run(*context)
        except refusals as error:
            api = _api_of_view(app)
            if _names_ours(api, error):
                raise
            if _handles_itself(api) and (own := _answer_of_extension(app, error, *context)):
                return own
            # That of the class: what an extension has put in its place is an attribute of the app.
            return type(app).handle_user_exception(app, *context, error)  # type: ignore[call-arg]  # a later Flask has a context

    return answered


def _api_of_view(app: Flask) -> Any:
    """Return what has replaced the app's error handling for the view of the running request, None if nothing has."""
    router = app.__dict__.get("handle_user_exception")
    while isinstance(router, partial):
        api = getattr(router.func, "__self__", None)
        if getattr(api, "_has_fr_route", bool)():
            return api
        router = router.args[0] if router.args else None
    return None


def _names_ours(api: Any, error: Exception) -> bool:
    """Return whether an API has a handler for an error of ours."""
    kinds = getattr(api, "_own_and_child_error_handlers", ())  # of Flask-RESTX: by class
    names = getattr(api, "errors", ())  # of Flask-RESTful: by the name of the class
    return type(error).__name__ in names or any(_is_for_ours(each) and isinstance(error, each) for each in kinds)


def _handles_itself(api: Any) -> bool:
    """Return whether the app has put a `handle_error` of its own in the place of the extension's."""
    handler, router = (getattr(api, name, None) for name in ("handle_error", "error_router"))
    return getattr(handler, "__module__", None) != getattr(router, "__module__", None)


def _answer_of_extension(app: Flask, error: Exception, *context: Any) -> Response | None:
    """Return what an app's `handle_error` makes of an error; None for the 500 of the extension, which it leads to."""
    try:
        answer = app.make_response(app.handle_user_exception(*context, error))  # type: ignore[call-arg]  # as above
    except type(error):
        return None
    return None if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR else answer


def _is_for_ours(kind: type) -> bool:
    """Return whether a handler of errors of this class is meant for ours: one of Exception is not."""
    return issubclass(kind, (CircuitError, Problem))


def _refused(error: Exception) -> Any:
    """Answer for what the app has no handler of its own, be it for a parent of the error, such as CircuitError."""
    handlers = current_app.error_handler_spec[None][None]
    kinds = [kind for kind in type(error).__mro__ if _is_for_ours(kind)]
    own = next((handlers[kind] for kind in kinds if handlers.get(kind, _refused) is not _refused), None)
    if own is not None:
        return current_app.ensure_sync(own)(error)
    return next(_REFUSALS[kind] for kind in kinds if kind in _REFUSALS)(error)


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


def _rate_limited(error: RateLimitedError) -> Response:
    wait = max(math.ceil(error.retry_after), 1)
    return _answer(
        Problem(
            429,
            "rate-limited",
            f"{error.name} has had as many calls as it may have",
            headers={"Retry-After": str(wait)},
            limit=error.name,
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
    RateLimitedError: _rate_limited,
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
