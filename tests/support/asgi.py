"""A client that calls an ASGI app in this process."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to an app, each on the loop of this client.

    Args:
        app: The app.
        address: Address of the client.
    """

    def __init__(self, app: Any, address: str | None = "127.0.0.1") -> None:
        self.app = app
        self.address = address
        self.loop = asyncio.new_event_loop()

    def get(self, path: str, headers: dict[str, str] | None = None, **given: Any) -> Answer:
        return self.send("GET", path, headers, **given)

    def post(self, path: str, document: object, headers: dict[str, str] | None = None, **given: Any) -> Answer:
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.send("POST", path, headers, body=json.dumps(document).encode(), **given)

    def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, *, body: bytes = b"", **scope: Any
    ) -> Answer:
        """Send a request, and return the response. Raises the exception that leaves the app."""
        received = [
            {"type": "http.request", "body": body[:1], "more_body": True},
            {"type": "http.request", "body": body[1:]},
        ]
        given = {"method": method, "type": "http", **self._scope(path, headers), **scope}
        return answered(self.loop.run_until_complete(self._run(given, received)))

    def connect(self, path: str, **scope: Any) -> list[dict[str, Any]]:
        """Open a WebSocket. Return the messages of the app until it ends."""
        given = {"type": "websocket", **self._scope(path, None), **scope}
        return self.loop.run_until_complete(self._run(given, [{"type": "websocket.connect"}]))

    @contextmanager
    def lifespan(self) -> Iterator[list[dict[str, Any]]]:
        """Run the lifespan of the app around a block. Yield its messages."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(self.app({"type": "lifespan", "asgi": {}, "state": {}}, queue.get, send))
            await queue.put({"type": "lifespan.startup"})
            while not sent and not task.done():
                await asyncio.sleep(0)
            return task

        async def end(task: asyncio.Task[None]) -> None:
            await queue.put({"type": "lifespan.shutdown"})
            await task

        running = self.loop.run_until_complete(begin())
        yield sent
        self.loop.run_until_complete(end(running))

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def _scope(self, path: str, headers: dict[str, str] | None) -> dict[str, Any]:
        path, _, query = path.partition("?")
        sent = {"Host": "localhost", **(headers or {})}
        return {
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": (self.address, 50000) if self.address else None,
            "http_version": "1.1",
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 8000),
        }

    async def _run(self, scope: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        left = iter(received)

        async def receive() -> dict[str, Any]:
            return next(left, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent


def answered(sent: list[dict[str, Any]]) -> Answer:
    """Return the response in the messages of an app."""
    start, *rest = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], headers, b"".join(each.get("body", b"") for each in rest))
