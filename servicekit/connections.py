"""Connections whose requests are parsed from memory, so that no thread waits for a client."""

import errno
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from http import HTTPStatus
from termios import TIOCOUTQ
from typing import Any, NoReturn

from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]  # it ships no types

from cb.integrations.flask import Problem, problem_response
from cb.integrations.flask.responses import add_security_headers
from cb.integrations.operations.request import choose_request_id
from cb.integrations.operations.request_input import MAX_BODY
from cb.ledger.semaphore import Permit, Semaphore

from .http_framing import Framing

#: largest request in bytes: a chunked body may take twice its length
_LIMIT = 2 * MAX_BODY
_RESET = struct.pack("ii", 1, 0)
#: permits of threads that wait for clients to take their responses, and their number
_waiting, _limit = Semaphore(Permit), 1


class Connection(TConn):  # type: ignore[misc]  # it has no types
    """One connection. `linger` is called with it to close it once the client has closed its end."""

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
        self.framing = Framing(_LIMIT, MAX_BODY, cfg, client)

    def init(self) -> None:
        """Set the timeout for the response, in the thread that writes it."""
        self.sock.settimeout(self._write_timeout)

    def next_request(self) -> bytes:
        """Start to collect a request, and return its bytes that arrived with the previous one."""
        left = self.parser.unreader.take_buffered() if self.parser else b""
        self.framing = Framing(_LIMIT, MAX_BODY, self.cfg, self.client)
        self.sock.setblocking(False)
        return left

    def parse(self) -> None:
        """Create a parser over the buffered bytes; the socket is not read again for this request."""
        self.parser = self.framing.parser()

    def refuse(self, status: int, detail: str) -> None:
        """Send an error response without the app."""
        self.send(error_response(status, detail))

    def send(self, data: bytes) -> None:
        """Send without waiting: the kernel accepts a few bytes at once while the client is connected."""
        with suppress(OSError):
            self.sock.send(data)

    def unsent(self) -> int:
        """Return the number of bytes that the client has not acknowledged."""
        return unsent(self.sock)

    def forget(self) -> None:
        """Discard the unacknowledged bytes when the connection is closed."""
        reset_on_close(self.sock)

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
        """Send all data. Raises BrokenPipeError, which gunicorn handles, if the client does not take it in time.

        If the kernel does not accept all of it at once, the thread waits within the socket's timeout; few may.
        """
        left, timeout = memoryview(data).cast("B"), self.gettimeout()
        self.settimeout(0)
        try:
            while left:
                left = left[self.send(left, flags) :]
        except BlockingIOError:
            self.settimeout(timeout)
            self._wait(left, flags)
        else:
            self.settimeout(timeout)

    def _wait(self, left: memoryview, flags: int) -> None:
        permit = _waiting.take(_limit)
        if permit is None:
            self._give_up()
        try:
            super().sendall(left, flags)
        except TimeoutError:
            self._give_up()
        finally:
            _waiting.give_back(permit)

    def _give_up(self) -> NoReturn:
        reset_on_close(self)
        raise BrokenPipeError(errno.EPIPE, "the client does not take its response")


def reset_on_close(sock: socket.socket) -> None:
    """Reset a socket when it is closed; otherwise the kernel would continue to send its buffer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def unsent(sock: socket.socket) -> int:
    """Return the number of bytes in the kernel's send buffer of a socket."""
    return int.from_bytes(ioctl(sock, TIOCOUTQ, bytes(4)), sys.byteorder)


def limit_waiting_threads(threads: int) -> None:
    """Limit the threads of this process that wait for clients to take their responses."""
    global _waiting, _limit  # of the process, which has one pool
    _waiting, _limit = Semaphore(Permit), threads


def error_response(status: int, detail: str) -> bytes:
    """Return the bytes of an error response to a request that does not reach the app."""
    phrase, request_id = HTTPStatus(status).phrase, choose_request_id(None)
    if status == 500:
        problem = Problem(status, "internal-error", "this is our fault")
    else:
        shown = "".join(each for each in detail if each.isprintable())[:200]
        problem = Problem(status, phrase.lower().replace(" ", "-"), shown)
    answer = add_security_headers(problem_response(problem, request_id))
    answer.headers.update({"Connection": "close", "X-Request-ID": request_id})
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    return f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode() + answer.get_data()
