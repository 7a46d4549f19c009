"""A network between a host and the server, which a test can cut."""

import selectors
import socket
import struct
import threading
from contextlib import suppress
from typing import Literal, Self

Mode = Literal["pass", "cut", "hang"]
_ABORT = struct.pack("ii", 1, 0)


class Proxy:
    """A TCP proxy on a loopback port.

    `pass` forwards all data, `cut` closes and refuses connections, `hang` accepts connections and drops all data.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._mode: Mode = "pass"
        self._changed = threading.Event()
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket | None] = {}
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._drop()
        self._selector.close()

    def set(self, mode: Mode) -> None:
        """Change the mode. Returns when it is in effect."""
        self._changed.clear()
        self._mode = mode
        assert self._changed.wait(5)

    def _run(self) -> None:
        mode: Mode = "pass"
        while not self._ended:
            if mode != self._mode:
                # Dropped data is lost: a connection must not continue after it.
                if self._mode != "hang":
                    self._drop()
                if self._mode != "cut":
                    self._listen()
                mode = self._mode
            self._changed.set()
            for key, _ in self._selector.select(0.01):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._move(key.fileobj)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        assert self._listener
        client, _ = self._listener.accept()
        upstream = None
        if self._mode == "pass":
            try:
                upstream = socket.create_connection(self._target, 1)
            except OSError:
                client.close()
                return
        for one, other in ((client, upstream), (upstream, client)):
            if one:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.settimeout(1)
                self._peers[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _move(self, source: socket.socket) -> None:
        target, data = self._peers[source], b""
        with suppress(OSError):
            data = source.recv(65536)
            if data and target and self._mode == "pass":
                target.sendall(data)
        if not data:
            self._close(source)
            if target:
                self._close(target)

    def _close(self, end: socket.socket) -> None:
        if end in self._peers:
            del self._peers[end]
            self._selector.unregister(end)
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            end.close()

    def _drop(self) -> None:
        for end in list(self._peers):
            self._close(end)
        if self._listener:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
