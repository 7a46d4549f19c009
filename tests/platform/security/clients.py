"""Misbehaving clients on raw sockets."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

LIVE = "/api/v1/health/live"
HEAD = b"GET /api/v1/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /api/v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
#: the start of a slow request, and the piece that is repeated for ever
DRIPS = {
    "headers": (HEAD, b"X-Drip: 1\r\n"),
    "request-line": (b"GET /", b"x"),
    "body": (POST + b"Content-Length: 60000\r\n\r\n", b" "),
    "large-body": (POST + b"Content-Length: 6000000\r\n\r\n", b" "),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n", b" "),
    "chunk-size": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;x", b"x"),
    "trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Drip: 1\r\n"),
}


def connect(url: str, **options: int) -> socket.socket:
    """Return a connection to a service; `receive` is the size of its receive buffer."""
    connection = socket.socket()
    if options:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive"])
    connection.settimeout(10)
    try:
        connection.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    except OSError:
        connection.close()
        raise
    return connection


def receive(connection: socket.socket) -> bytes:
    """Return one response, complete by its Content-Length."""
    data = b""
    while not (match := re.match(rb".*?content-length: (\d+)\r\n.*?\r\n\r\n", data, re.IGNORECASE | re.DOTALL)):
        data += connection.recv(1) or b"\r\ncontent-length: 0\r\n\r\n"
    while len(data) < match.end() + int(match[1]):
        data += connection.recv(4096)
    return data


def exchange(url: str, request: bytes) -> bytes:
    """Send bytes, and return everything received until the service closes the connection."""
    with connect(url) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def dripping(url: str, kind: str, number: int) -> Iterator[list[socket.socket]]:
    """Run clients that send their requests slowly and reconnect when they are disconnected."""
    begin, piece = DRIPS[kind]
    over = threading.Event()

    def drip() -> None:
        while not over.is_set():
            with suppress(OSError), connect(url) as connection:
                connection.sendall(begin)
                while not over.wait(0.05):
                    connection.sendall(piece)

    threads = [threading.Thread(target=drip) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield []
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def idle(url: str, number: int) -> Iterator[list[socket.socket]]:
    """Open connections without sending anything."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(url)) for _ in range(number)]
