"""Connections whose requests are parsed from memory: nothing that a thread does with one waits for its client."""

import errno
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.http import RequestParser  # type: ignore[import-untyped]  # it ships no types
from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]  # as above

from .body import MAX_BODY
from .correlation import choose
from .framing import Framing
from .hardening import harden
from .problems import Problem

#: bytes of a request that are waited for: a body in chunks may take twice what it holds
_LIMIT = 2 * MAX_BODY
_RESET = struct.pack("ii", 1, 0)


class Connection(TConn):  # type: ignore[misc]  # it has no types
    """One connection. `linger` is called with it when it shall be closed once the client has closed its end."""

    def __init__(
        self,
        cfg: Any,
        accepted: socket.socket,
        client: Any,
        server: Any,
        *,
        write_timeout: float,
        linger: Callable[["Connection"], None],
    ) -> None:
        sock = _Socket(accepted.family, accepted.type, accepted.proto, accepted.detach())
        super().__init__(cfg, sock, client, server)
        self._write_timeout = write_timeout
        self._linger = linger
        self.initialized = True
        self.framing = Framing(_LIMIT)

    def init(self) -> None:
        """Prepare to answer, in a thread."""
        self.sock.settimeout(self._write_timeout)

    def next_request(self) -> bytes:
        """Begin to collect a request, and return what has come of it with the one before."""
        left = self.parser.unreader.take_buffered() if self.parser else b""
        self.framing = Framing(_LIMIT)
        self.sock.setblocking(False)
        return left

    def parse(self) -> None:
        """Have a parser for what is here, to which the client seems to have sent no more."""
        self.parser = RequestParser(self.cfg, (), self.client)
        self.parser.unreader.unread(bytes(self.framing.data))

    def refuse(self, status: int, detail: str) -> None:
        """Answer, without the app, what is wrong with a request."""
        self.send(refusal(status, detail))

    def send(self, data: bytes) -> None:
        """Send what the kernel takes at once, as it does with a few bytes to a client that is there."""
        with suppress(OSError):
            self.sock.send(data)

    def close(self, graceful: bool = False) -> None:
        if graceful:
            try:
                self.sock.setblocking(False)
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                graceful = False
        if graceful:
            self._linger(self)
        else:
            super().close()


class _Socket(socket.socket):
    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it within the socket's timeout; for gunicorn, a client who does not take it has gone."""
        try:
            super().sendall(data, flags)
        except TimeoutError as error:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # or the kernel would go on trying
            raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from error


def refusal(status: int, detail: str) -> bytes:
    """Return an answer, as it goes over the wire, to a request that does not reach the app."""
    phrase, request_id = HTTPStatus(status).phrase, choose(None)
    if status == 500:
        problem = Problem(status, "internal-error", "this is our fault")
    else:
        shown = "".join(each for each in detail if each.isprintable())[:200]
        problem = Problem(status, phrase.lower().replace(" ", "-"), shown)
    answer = harden(problem.response(request_id))
    answer.headers.update({"Connection": "close", "X-Request-ID": request_id})
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    return f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode() + answer.get_data()
