"""Precedence of an app's own routes over those of the extension."""

from collections import deque
from http import HTTPStatus

from cb.integrations.operations.request_input import MAX_BODY

from .messages import App, Message, Receive, Scope, Send

_MISSING = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}


class Attempt:
    """A request that the app may answer. If it answers that it has no such route, nothing is sent.

    Args:
        receive: Receives from the client. What the app has read of the body is kept.
        send: Sends to the client.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._received: deque[Message] = deque()
        self._kept = 0
        #: status of the app's response, 0 before there is one
        self.status = 0

    async def run(self, app: App, scope: Scope) -> bool:
        """Run the app. Return True if it has answered."""
        await app(scope, self._receive_and_keep, self._send_unless_missing)
        return self.status not in _MISSING

    async def receive(self) -> Message:
        """Receive the request again from its beginning."""
        return self._received.popleft() if self._received else await self._receive()

    async def _receive_and_keep(self) -> Message:
        message = await self._receive()
        if self._kept <= MAX_BODY:  # more is not needed
            self._kept += len(message.get("body", b""))
            self._received.append(message)
        return message

    async def _send_unless_missing(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if self.status not in _MISSING:
            await self._send(message)
