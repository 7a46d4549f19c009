"""Every error of a service as `application/problem+json` (RFC 9457)."""

from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from cb.integrations.flask import Problem, problem_response
from cb.log import Log

log = Log(__name__)


def init_app(app: Flask) -> None:
    """Answer every error of an app with a Problem."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


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
    return problem_response(Problem(status, code, detail, headers=headers))


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem_response(Problem(500, "internal-error", "this is our fault; the log has more under this request_id"))
