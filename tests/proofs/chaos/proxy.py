"""A network between gateway and portfolio that loses, delays, duplicates and cuts off requests."""

import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

#: weights of the faults of a request; each kind is a method of the proxy
ODDS = {
    "pass": 74,
    "lost answer": 7,
    "hang": 3,
    "reset": 5,
    "late request": 3,
    "half a request": 4,
    "twice": 4,
}
#: share of trades all of whose booking requests get the same fault, so that some trades are voided
CURSES = {"lost answer": 6, "reset": 6, "half a request": 6, "hang": 1, "late request": 1}
CURSED = 0.05
#: maximum delay in seconds of a late request, after its client has timed out
LATE = 6.0
_ABORT = struct.pack("ii", 1, 0)
_BOOKS = re.compile(rb'POST \S+/positions .*"tradeId": *"([^"]+)"', re.DOTALL)


class Proxy:
    """A TCP proxy that parses HTTP requests. `heal` ends all faults, `cut` closes all connections."""

    def __init__(self, port: int, target: int, seed: int) -> None:
        self.port = port
        #: counts of faults
        self.met: Counter[str] = Counter()
        self._target = ("127.0.0.1", target)
        self._random = random.Random(seed)
        self._seed = seed
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._hold, self._held = threading.Event(), threading.Event()
        self._clients: set[socket.socket] = set()
        self._late: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self.cut()

    def heal(self) -> None:
        """Forward all requests from now on. Delayed requests still arrive."""
        self._healed.set()

    def cut(self) -> None:
        """Close all connections and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            clients = list(self._clients)
        if listener:
            listener.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the accepting thread
            listener.close()
            self.met["refused connection"] += 1
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Accept connections again."""
        with self._lock:
            listener = self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    @contextmanager
    def held_answer(self) -> Iterator[None]:
        """Hold responses back during the block, which starts with the first one or after a while."""
        self._held.clear()
        self._hold.set()
        try:
            self._held.wait(0.5)
            yield
        finally:
            self._hold.clear()

    def wait_for_the_late(self) -> None:
        """Wait until every delayed request has been delivered."""
        for thread in self._late:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(60)
        with self._lock:
            self._clients.add(client)
        try:
            with client, suppress(OSError):
                while request := receive(client):
                    kind = self._choose(request)
                    self.met[kind] += 1
                    if not getattr(self, "_" + kind.replace(" ", "_"))(client, request):
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                        return
        finally:
            with self._lock:
                self._clients.discard(client)

    def _choose(self, request: bytes) -> str:
        if self._healed.is_set():
            return "pass"
        if books := _BOOKS.match(request):
            fate = random.Random(f"{self._seed} {books[1].decode()}")
            if fate.random() < CURSED:
                return fate.choices(list(CURSES), list(CURSES.values()))[0]
        with self._lock:
            return self._random.choices(list(ODDS), list(ODDS.values()))[0]

    # Each returns True if the connection continues.

    def _pass(self, client: socket.socket, request: bytes) -> bool:
        answer = self._deliver(request)
        while answer and self._hold.is_set():
            self._held.set()
            threading.Event().wait(0.01)
        client.sendall(answer)
        return bool(answer)

    def _lost_answer(self, _client: socket.socket, request: bytes) -> bool:
        self._deliver(request)
        return False

    def _hang(self, client: socket.socket, _request: bytes) -> bool:
        client.recv(1)  # returns when the client times out
        return False

    def _reset(self, _client: socket.socket, _request: bytes) -> bool:
        return False

    def _late_request(self, client: socket.socket, request: bytes) -> bool:
        with suppress(OSError):
            client.recv(1)
        with self._lock:
            by = self._random.uniform(0, LATE)
            self._late.append(threading.current_thread())
        threading.Event().wait(by)
        self._deliver(request)
        return False

    def _half_a_request(self, _client: socket.socket, request: bytes) -> bool:
        with self._lock:
            length = self._random.randrange(1, len(request))
        with socket.create_connection(self._target, 5) as portfolio:
            portfolio.sendall(request[:length])
        return False

    def _twice(self, client: socket.socket, request: bytes) -> bool:
        with ExitStack() as stack:
            both = [stack.enter_context(socket.create_connection(self._target, 10)) for _ in range(2)]
            for part in (request[:-1], request[-1:]):  # so that both are complete at the same time
                for each in both:
                    each.sendall(part)
            answers = [receive(each) for each in both]
        client.sendall(answers[0])
        return bool(answers[0])

    def _deliver(self, request: bytes) -> bytes:
        with socket.create_connection(self._target, 10) as portfolio:
            portfolio.sendall(request)
            return receive(portfolio)


def receive(source: socket.socket) -> bytes:
    """Return an HTTP message, empty if the connection ends before its end. Raises OSError."""
    data = b""
    while (end := data.find(b"\r\n\r\n") + 4) < 4:
        if not (more := source.recv(65536)):
            return b""
        data += more
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", data[:end])
    size = end + int(length[1] if length else 0)
    while len(data) < size:
        if not (more := source.recv(65536)):
            return b""
        data += more
    return data
