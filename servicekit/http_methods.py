"""HTTP methods that nobody knows, kept out before they cost a time series each."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cb.integrations.flask import Problem
from cb.integrations.flask.request_id import choose_request_id
from cb.integrations.flask.security_headers import add_security_headers

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_KNOWN = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class KnownMethods:
    """Answers requests with other methods than HTTP's own, and passes on the rest."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _KNOWN:
            return self._app(environ, start_response)
        allowed = ", ".join(sorted(_KNOWN))
        request_id = choose_request_id(environ.get("HTTP_X_REQUEST_ID"))
        headers = {"Allow": allowed, "X-Request-ID": request_id}
        problem = Problem(
            405, "method-not-allowed", f"the method is not possible here, only {allowed}", headers=headers
        )
        return add_security_headers(problem.response(request_id))(environ, start_response)
