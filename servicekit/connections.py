"""Connections whose requests are parsed from memory: nothing that a thread does with one waits for its client."""

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

from cb.integrations.flask import Problem
from cb.integrations.flask.request_id import choose_request_id
from cb.integrations.flask.request_input import MAX_BODY
from cb.integrations.flask.security_headers import add_security_headers
from cb.ledger.semaphore import Permit, Semaphore

from .http_framing import Framing

#: bytes of a request that are waited for: a body in chunks may take twice what it holds
_LIMIT = 2 * MAX_BODY
_RESET = struct.pack("ii", 1, 0)
#: of threads that wait for clients to take their answers, and how many there are
_patient, _limit = Semaphore(Permit), 1


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
        self.framing = Framing(_LIMIT, MAX_BODY, cfg, client)

    def init(self) -> None:
        """Prepare to answer, in a thread."""
        self.sock.settimeout(self._write_timeout)

    def next_request(self) -> bytes:
        """Begin to collect a request, and return what has come of it with the one before."""
        left = self.parser.unreader.take_buffered() if self.parser else b""
        self.framing = Framing(_LIMIT, MAX_BODY, self.cfg, self.client)
        self.sock.setblocking(False)
        return left

    def parse(self) -> None:
        """Take the parser over what has arrived; the socket is not read again for this request."""
        self.parser = self.framing.parser()

    def refuse(self, status: int, detail: str) -> None:
        """Answer, without the app, what is wrong with a request."""
        self.send(refusal(status, detail))

    def send(self, data: bytes) -> None:
        """Send what the kernel takes at once, as it does with a few bytes to a client that is there."""
        with suppress(OSError):
            self.sock.send(data)

    def unsent(self) -> int:
        """Return how many bytes of answers the client has not taken."""
        return unsent(self.sock)

    def forget(self) -> None:
        """Let what the client has not taken be lost to it when the connection is closed."""
        forget(self.sock)

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
        """Send all of it; for gunicorn, a client who does not take it has gone.

        What the kernel does not take at once is waited for within the socket's timeout, by few threads at a time.
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
        slot = _patient.take(_limit)
        if slot is None:
            self._give_up()
        try:
            super().sendall(left, flags)
        except TimeoutError:
            self._give_up()
        finally:
            _patient.give_back(slot)

    def _give_up(self) -> NoReturn:
        forget(self)
        raise BrokenPipeError(errno.EPIPE, "the client does not take its answer")


def forget(sock: socket.socket) -> None:
    """Have a socket reset when it is closed: the kernel would go on trying to send what it has."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def unsent(sock: socket.socket) -> int:
    """Return how many bytes the kernel has that a client has not taken."""
    return int.from_bytes(ioctl(sock, TIOCOUTQ, bytes(4)), sys.byteorder)


def let_wait(threads: int) -> None:
    """Say how many threads of this process may wait at once for clients to take their answers."""
    global _patient, _limit  # of the process, which has one pool
    _patient, _limit = Semaphore(Permit), threads


def refusal(status: int, detail: str) -> bytes:
    """Return an answer, as it goes over the wire, to a request that does not reach the app."""
    phrase, request_id = HTTPStatus(status).phrase, choose_request_id(None)
    if status == 500:
        problem = Problem(status, "internal-error", "this is our fault")
    else:
        shown = "".join(each for each in detail if each.isprintable())[:200]
        problem = Problem(status, phrase.lower().replace(" ", "-"), shown)
    answer = add_security_headers(problem.response(request_id))
    answer.headers.update({"Connection": "close", "X-Request-ID": request_id})
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    return f"HTTP/1.1 {status} {phrase}\r\n{head}\r\n".encode() + answer.get_data()
