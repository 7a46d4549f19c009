"""Requests of Django as the operators' routes read them."""

from collections.abc import Iterable
from contextlib import suppress

from django.http import HttpRequest, UnreadablePostError

from cb.integrations.operations.request import Headers, choose_request_id
from cb.integrations.operations.request_input import MAX_BODY

_REQUEST_ID = "_cb_request_id"


class DjangoRequest:
    """A request of Django as a `Request`."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def __repr__(self) -> str:
        return f"<DjangoRequest {self._request!r}>"

    @property
    def client(self) -> str | None:
        client: str | None = self._request.META.get("REMOTE_ADDR")
        return client

    @property
    def http_version(self) -> str:
        scope = getattr(self._request, "scope", None)  # of a server for ASGI
        if scope:
            return str(scope.get("http_version", "1.1"))
        return str(self._request.META.get("SERVER_PROTOCOL", "")).removeprefix("HTTP/")

    @property
    def headers(self) -> Headers:
        headers: Headers = self._request.headers
        return headers

    @property
    def path(self) -> str:
        return str(self._request.path)

    @property
    def query(self) -> Iterable[tuple[str, str]]:
        return ((name, value) for name, values in self._request.GET.lists() for value in values)


def request_id(request: HttpRequest) -> str:
    """Return the id of a request: that of its header `X-Request-ID`, if well formed, otherwise a new one."""
    chosen: str | None = getattr(request, _REQUEST_ID, None)
    if chosen is None:
        chosen = choose_request_id(request.headers.get("X-Request-ID"))
        setattr(request, _REQUEST_ID, chosen)
    return chosen


def read_body(request: HttpRequest) -> bytes:
    """Receive the body; of one that is too long, one byte more than is allowed. What does not arrive is left out."""
    limit, body = MAX_BODY + 1, b""
    with suppress(OSError, UnreadablePostError):  # the length that the headers announce is compared with it
        while len(body) < limit and (part := request.read(limit - len(body))):
            body += part
    return body
