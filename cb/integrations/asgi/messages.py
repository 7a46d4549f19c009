"""Requests and responses of ASGI."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from cb.integrations.operations.request import choose_request_id
from cb.integrations.operations.request_input import MAX_BODY
from cb.integrations.operations.responses import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Headers:
    """Headers by name, in upper or lower case. Values of repeated headers are joined by commas."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in raw:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._values[key] = f"{self._values[key]},{text}" if key in self._values else text

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._values)}>"

    def get(self, name: str, /) -> str | None:
        return self._values.get(name.lower())

    def keys(self) -> Iterable[str]:
        return self._values.keys()


class ScopeRequest:
    """A request of ASGI as a `Request`."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.headers = Headers(scope["headers"])

    def __repr__(self) -> str:
        return f"<ScopeRequest {self._scope.get('method')} {self._scope.get('path')}>"

    @property
    def client(self) -> str | None:
        client = self._scope.get("client")
        return client[0] if client else None

    @property
    def http_version(self) -> str:
        return str(self._scope.get("http_version", ""))

    @property
    def path(self) -> str:
        return str(self._scope["path"])

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self._scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)

    @property
    def id(self) -> str:
        """The client's request id if it is well formed, otherwise a new one."""
        return choose_request_id(self.headers.get("X-Request-ID"))


def route_path(scope: Scope) -> str:
    """Return the path of a request below the path at which the app is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    # Some servers leave the root out of the path.
    return path[len(root) :] if root and (path + "/").startswith(root + "/") else path


async def send_response(scope: Scope, send: Send, response: Response) -> None:
    """Send a response, without its body if the method of the request is HEAD."""
    start = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    await send({"type": f"{start}.start", "status": int(response.status), "headers": headers})
    await send({"type": f"{start}.body", "body": b"" if scope.get("method") == "HEAD" else response.body})


async def receive_body(receive: Receive) -> bytes | None:
    """Return the body of a request, or its first `MAX_BODY` + 1 bytes; None if the client has left."""
    body = bytearray()
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body[: MAX_BODY + 1])
