"""The current request and the extension of the current app, as views use them."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from flask import current_app, g, has_request_context, request
from werkzeug.exceptions import ClientDisconnected

from cb.integrations.operations import access, request_input
from cb.integrations.operations.extension_state import ExtensionState
from cb.integrations.operations.request import Headers, choose_request_id


class CurrentRequest:
    """The current request of Flask as a `Request`."""

    def __repr__(self) -> str:
        return f"<CurrentRequest {request!r}>"

    @property
    def client(self) -> str | None:
        return request.remote_addr

    @property
    def http_version(self) -> str:
        return str(request.environ.get("SERVER_PROTOCOL", "")).removeprefix("HTTP/")

    @property
    def headers(self) -> Headers:
        return request.headers

    @property
    def path(self) -> str:
        return request.path

    @property
    def query(self) -> Iterable[tuple[str, str]]:
        return request.args.items(multi=True)


#: the current request
CURRENT = CurrentRequest()


def circuit_breakers() -> ExtensionState:
    """Return the state of the current app."""
    found: ExtensionState = current_app.extensions["circuit_breakers"]
    return found


def request_id() -> str:
    """Return the id of the current request; outside of a request, a new id."""
    if not has_request_context():
        return choose_request_id(None)
    if "request_id" not in g:
        g.request_id = choose_request_id(request.headers.get("X-Request-ID"))
    chosen: str = g.request_id
    return chosen


def require_operator() -> None:
    """Require the operators' token, or, if none is configured, a request from this host. Raises Problem (401)."""
    access.require_operator(circuit_breakers(), CURRENT)


def require_reader() -> None:
    """Require a request from this host, or one with the operators' token, unless all may read. Raises Problem (403)."""
    access.require_reader(circuit_breakers(), CURRENT)


def require_token(token: str | None, owner: str) -> None:
    """Require a token; None requires nothing. Raises Problem (401)."""
    access.require_token(CURRENT, token, owner)


def bearer_token() -> str | None:
    """Return the bearer token of the current request, None without one."""
    return access.bearer_token(CURRENT)


def read_document() -> tuple[Any, list[str]]:
    """Parse the JSON body of the current request. Raises Problem.

    Return the document and its violations of JSON's number syntax. Fractions are Decimals. NaN and infinities are kept,
    so that a validation error can name their position; a document with such violations must not be accepted.
    """
    return request_input.parse_document(CURRENT, read_body())


def read_body() -> bytes:
    """Receive a body of JSON; of one that is too long, one byte more than is allowed. Raises Problem."""
    request_input.check_body(CURRENT)
    # One more byte than is allowed: a chunked body is cut at the app's limit without an error.
    limit = request_input.MAX_BODY + 1
    try:
        with suppress(AttributeError):  # before Flask 3.1, only the app has a limit
            request.max_content_length = limit
            return request.get_data(cache=False)
        body = b""
        while len(body) < limit and (part := request.stream.read(limit - len(body))):
            body += part
        return body
    except _server_errors() as error:
        raise request_input.incomplete(f"{type(error).__name__} while it was read") from error


def _server_errors() -> tuple[type[Exception], ...]:
    """Return the errors of reading a body. gunicorn, which may not be installed, raises its own."""
    gunicorn: Any = sys.modules.get("gunicorn.http.errors")
    return (ClientDisconnected, gunicorn.ParseException) if gunicorn else (ClientDisconnected,)
