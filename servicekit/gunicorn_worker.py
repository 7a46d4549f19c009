"""A gunicorn worker whose threads do not wait for clients.

The threads of gthread read requests themselves: as many slow clients as there are threads block a worker. Here the
thread that accepts connections reads all of them, each for at most `read_timeout`, and a thread of the pool starts once
a request is complete. A response fits into the kernel's buffer or is taken by the client within `write_timeout`; at
most a quarter of the threads wait for that. No thread waits for a client to close its end.
"""

import errno
import re
import resource
import socket
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from selectors import EVENT_READ
from typing import Any

import gunicorn  # type: ignore[import-untyped]  # it ships no types
from gunicorn import util
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # as above
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # as above

from cb.clocks import monotonic
from cb.log import Log

from .connections import Connection, error_response, limit_waiting_threads

log = Log(__name__)

#: versions whose internals this worker is tested with
_TESTED = re.compile(r"27\.0\.[0-9]+")
_PIECE = 64 * 1024
#: bytes of a response that the kernel accepts at once
_SEND_BUFFER = 512 * 1024
#: largest unacknowledged part of it when the next request gets a thread: the next response needs room
_UNTAKEN = 64 * 1024
#: seconds for a client to close its end; after that unread bytes may be lost
_LINGER = 2.0
_FILES = 4096  # four times worker_connections
_OTHER_FILES = 200  # databases, ledgers, connections to other services
#: errors of a lack of resources
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def worker_class(read_timeout: float, write_timeout: float) -> type | str:
    """Return the worker class for gunicorn: for untested versions its own, with a warning."""
    if not _TESTED.fullmatch(gunicorn.__version__):
        log.warning("gunicorn %s is not guarded: slow clients can block all threads", gunicorn.__version__)
        return "gthread"
    return type("GuardWorker", (GuardWorker,), {"read_timeout": read_timeout, "write_timeout": write_timeout})


class GuardWorker(ThreadWorker):  # type: ignore[misc]  # it has no types
    """Reads requests before threads get them. All methods here run in the thread of the poller."""

    #: seconds for a client to send a request
    read_timeout = 5.0
    #: seconds for a client to take a response
    write_timeout = 10.0
    worker_connections: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._reading, self._lingering, self._taking = _Waiting(self), _Waiting(self), _Waiting(self)

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        if cfg.is_ssl:
            raise RuntimeError("TLS is for a proxy before this service: the guard reads none")
        if cfg.proxy_protocol != "off":
            raise RuntimeError("proxy_protocol must be off: the guard reads HTTP alone")
        super().check_config(cfg, log)

    def init_process(self) -> None:
        util.write_error = _write_error  # gunicorn has no hook for its own error responses
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # its connections inherit it
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = max(soft, min(hard, _FILES))
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        if self.worker_connections > files - _OTHER_FILES:
            self.worker_connections = max(files - _OTHER_FILES, 1)
            self.max_keepalived = max(self.worker_connections - self.cfg.threads, 1)
            log.warning("%d files may be open: no more than %d connections", files, self.worker_connections)
        limit_waiting_threads(max(self.cfg.threads // 4, 1))
        super().init_process()

    def accept(self, listener: Any) -> None:
        try:
            accepted, client = listener.accept()
        except BlockingIOError:  # another worker has it
            return
        except OSError as error:
            if error.errno not in {errno.ECONNABORTED, *_NO_ROOM}:
                raise
            return
        self.nr_conns += 1
        server, limit = listener.getsockname(), self.write_timeout
        self.enqueue_req(Connection(self.cfg, accepted, client, server, write_timeout=limit, linger=self._linger))

    def enqueue_req(self, conn: Connection) -> None:
        """Handle the next request of a connection in a thread once it is complete."""
        left = conn.next_request()
        if not (left and self._take(conn, left)) and not self._read(conn):
            self._reading.add(conn, self.read_timeout, self._read)

    def murder_pending(self) -> None:
        """Close connections whose timeout has passed."""
        for conn in self._reading.expired():
            if begun := bool(conn.framing.data):
                conn.refuse(408, f"the request did not arrive within {self.read_timeout:g} s")
            self._drop(conn, graceful=begun)
        for conn in self._lingering.expired():
            self._drop(conn)
        for conn in self._taking.expired():
            if conn.unsent() or not self.alive:
                conn.forget()
                self._drop(conn)
            else:
                conn.set_timeout()
                self.keepalived_conns.append(conn)
                self.poller.register(conn.sock, EVENT_READ, partial(self.on_client_socket_readable, conn))

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Keep a connection only if its client takes the response within `write_timeout`."""
        kept = self.alive and not fs.cancelled() and not fs.exception() and fs.result()
        if kept and conn.unsent() and not conn.parser.unreader.buf.getvalue():
            conn.sock.setblocking(False)
            self._taking.add(conn, self.write_timeout, self._go_on)
        else:
            super().finish_request(conn, fs)

    def _go_on(self, conn: Connection) -> bool:
        self.enqueue_req(conn)
        return True

    def _linger(self, conn: Connection) -> None:
        """Close a connection once the client has closed its end, or after a timeout: it may still be reading."""
        self.nr_conns += 1
        self._lingering.add(conn, _LINGER, self._drain)

    def _read(self, conn: Connection) -> bool:
        """Read from a connection. Return True if the request is complete or the connection has ended."""
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
        if excess := framing.excess():
            conn.refuse(*excess)
            self._drop(conn, graceful=True)
        elif conn.unsent() > _UNTAKEN:
            conn.forget()
            self._drop(conn)
        else:
            conn.parse()
            super().enqueue_req(conn)
        return True

    def _drain(self, conn: Connection) -> bool:
        """Discard received bytes. Return True if the client has closed its end; the connection is closed then."""
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
        # After a request that was not read to its end, the next bytes are no new request.
        try:
            return not conn.framing.cut and super()._keepalive_after(conn, keepalive)
        except ParseException:  # of an unread body: its request has been answered already
            return False


def _write_error(sock: socket.socket, status: int, _reason: str, message: str) -> None:
    sock.sendall(error_response(status, message))


class _Waiting:
    """Connections on the poller with one common timeout, the oldest first."""

    def __init__(self, worker: GuardWorker) -> None:
        self._worker = worker
        self._deadlines: dict[Connection, float] = {}

    def add(self, conn: Connection, seconds: float, ready: Callable[[Connection], bool]) -> None:
        """Call `ready` for each readable event until it returns True."""

        def look(_: object) -> None:
            # `ready` may close the descriptor, which must not be registered then.
            self._worker.poller.unregister(conn.sock)
            if ready(conn):
                del self._deadlines[conn]
            else:
                self._worker.poller.register(conn.sock, EVENT_READ, look)

        self._deadlines[conn] = monotonic() + seconds
        self._worker.poller.register(conn.sock, EVENT_READ, look)

    def expired(self) -> list[Connection]:
        """Remove and return the connections whose timeout has passed."""
        now = monotonic()
        late = list(takewhile(lambda conn: self._deadlines[conn] <= now, self._deadlines))
        for conn in late:
            del self._deadlines[conn]
            self._worker.poller.unregister(conn.sock)
        return late
