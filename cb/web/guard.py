"""A worker for gunicorn whose threads wait for no client.

Those of gthread read requests themselves: as many clients as there are threads, each sending a byte now and then, stop
a worker for ever. Here the thread that accepts connections reads all of them, none longer than `read_timeout`, and a
thread of the pool begins once a request is whole. What it answers fits into the kernel's buffer, or is taken by the
client within `write_timeout`; and nobody stands still until a client has closed its end.
"""

import errno
import logging
import re
import resource
import socket
import time
from collections.abc import Callable
from itertools import takewhile
from selectors import EVENT_READ
from typing import Any

import gunicorn  # type: ignore[import-untyped]  # it ships no types
from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # as above

from .connections import Connection, refusal
from .framing import MAX_HEAD

log = logging.getLogger(__name__)

#: the versions whose workers this one is made from; another may have other insides
_TESTED = re.compile(r"27\.0\.[0-9]+")
_PIECE = 64 * 1024
#: bytes of an answer that the kernel takes, whatever the client does
_SEND_BUFFER = 512 * 1024
#: seconds for a client to close its end, or what it has not read yet may be lost to it
_LINGER = 2.0
_FILES = 4096  # four times worker_connections
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def worker_class(read_timeout: float, write_timeout: float) -> type | str:
    """Return what gunicorn is to make workers of; its own, and a warning, where its version is not one we know."""
    if not _TESTED.fullmatch(gunicorn.__version__):
        log.warning("gunicorn %s is not guarded: slow clients can hold all threads", gunicorn.__version__)
        return "gthread"
    return type("GuardWorker", (GuardWorker,), {"read_timeout": read_timeout, "write_timeout": write_timeout})


class GuardWorker(ThreadWorker):  # type: ignore[misc]  # it has no types
    """Reads requests before threads get them. All that is written here runs in the thread of its poller."""

    #: seconds for a client to send a whole request
    read_timeout = 5.0
    #: seconds for it to take an answer
    write_timeout = 10.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reading, self._lingering = _Waiting(self), _Waiting(self)

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise RuntimeError("TLS is for a proxy before this service: the guard reads none")
        super().check_config(cfg, log)

    def init_process(self) -> None:
        util.write_error = _write_error  # gunicorn has no hook for what it answers by itself
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # its connections inherit it
        files = resource.getrlimit(resource.RLIMIT_NOFILE)  # one more connection than it allows, and the worker ends
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(files[0], min(files[1], _FILES)), files[1]))
        super().init_process()

    def accept(self, listener: Any) -> None:
        try:
            accepted, client = listener.accept()
        except BlockingIOError:  # another worker has it
            return
        except OSError as error:
            if error.errno != errno.ECONNABORTED:
                raise
            return
        self.nr_conns += 1
        server, limit = listener.getsockname(), self.write_timeout
        self.enqueue_req(Connection(self.cfg, accepted, client, server, write_timeout=limit, linger=self._linger))

    def enqueue_req(self, conn: Connection) -> None:
        """Have a thread handle the next request of a connection, as soon as that is here."""
        left = conn.next_request()
        if not (left and self._take(conn, left)) and not self._read(conn):
            self._reading.add(conn, self.read_timeout, self._read)

    def murder_pending(self) -> None:
        """End connections whose time is up."""
        for conn in self._reading.expired():
            if begun := bool(conn.framing.data):
                conn.refuse(408, f"the request did not arrive within {self.read_timeout:g} s")
            self._drop(conn, graceful=begun)
        for conn in self._lingering.expired():
            self._drop(conn)

    def _linger(self, conn: Connection) -> None:
        """Close a connection once the client has closed its end, or has had time to: it may still be reading."""
        self.nr_conns += 1
        self._lingering.add(conn, _LINGER, self._drain)

    def _read(self, conn: Connection) -> bool:
        """Return whether there is no more to read of a request, be it that the connection has ended."""
        try:
            received = conn.sock.recv(_PIECE)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if received or conn.framing.data:
            return self._take(conn, received)
        self._drop(conn)
        return True

    def _take(self, conn: Connection, received: bytes) -> bool:
        framing = conn.framing
        if not framing.feed(received):
            if framing.expects:
                framing.expects = False
                conn.send(_GO_ON)
            return False
        if status := framing.too_long():
            conn.refuse(status, f"the request line and the headers must have at most {MAX_HEAD} bytes")
            self._drop(conn, graceful=True)
        else:
            conn.parse()
            super().enqueue_req(conn)
        return True

    def _drain(self, conn: Connection) -> bool:
        """Return whether a client has closed its end, after which the connection is gone."""
        try:
            if conn.sock.recv(_PIECE):
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._drop(conn)
        return True

    def _drop(self, conn: Connection, *, graceful: bool = False) -> None:
        self.nr_conns -= 1
        conn.close(graceful)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        # Where a request has not been read to its end, what comes is no other request.
        return not conn.framing.cut and super()._keepalive_after(conn, keepalive)


def _write_error(sock: socket.socket, status: int, _reason: str, message: str) -> None:
    sock.sendall(refusal(status, message))


class _Waiting:
    """Connections on the poller, each for so many seconds and the same for all, the oldest first."""

    def __init__(self, worker: GuardWorker) -> None:
        self._worker = worker
        self._deadlines: dict[Connection, float] = {}

    def add(self, conn: Connection, seconds: float, ready: Callable[[Connection], bool]) -> None:
        """Call `ready` whenever something has come, until it returns that it is enough."""

        def look(_: object) -> None:
            # The descriptor may be closed by what is ready: not to be watched any more by then.
            self._worker.poller.unregister(conn.sock)
            if ready(conn):
                del self._deadlines[conn]
            else:
                self._worker.poller.register(conn.sock, EVENT_READ, look)

        self._deadlines[conn] = time.monotonic() + seconds
        self._worker.poller.register(conn.sock, EVENT_READ, look)

    def expired(self) -> list[Connection]:
        """Remove the connections whose time is up, and return them."""
        now = time.monotonic()
        late = list(takewhile(lambda conn: self._deadlines[conn] <= now, self._deadlines))
        for conn in late:
            del self._deadlines[conn]
            self._worker.poller.unregister(conn.sock)
        return late
