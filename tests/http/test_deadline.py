"""The deadline on every kind of connection."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import requests
import truststore
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.util import connection as urllib3_connection

from cb import BreakerConfig, CircuitBreaker, Registry
from cb.http import CircuitBreakerAdapter, HTTPClient, PoolTimeoutError, guarded_session
from tests.http.conftest import Secure, counted
from tests.support.misbehaving import Act, Server, answer, drip_body, drip_headers

pytestmark = pytest.mark.quiet

DEADLINE = 0.4


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=None, minimum_requests=1_000))


@pytest.fixture
def session(registry: Registry, pem: str) -> Iterator[requests.Session]:
    with guarded_session(registry, "d", timeout=DEADLINE) as session:
        session.verify = pem
        yield session


def assert_late(registry: Registry, call: Callable[[], object], errors: Any = requests.RequestException) -> None:
    """Assert that a call ends at the deadline, as a failure."""
    begin, before = time.monotonic(), counted(registry.get("d"))
    with pytest.raises(errors):
        call()
    assert DEADLINE * 0.8 < time.monotonic() - begin < DEADLINE + 1.5
    assert counted(registry.get("d")) == (before[0], before[1] + 1, before[2])


@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_deadline_holds_where_the_system_checks_certificates(
    serve: Callable[[], Secure],
    registry: Registry,
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
    act: Act,
) -> None:
    server = serve()
    with ExitStack() as stack:
        if hasattr(requests.adapters, "_preloaded_ssl_context"):  # also replaced, and not restored
            monkeypatch.setattr(requests.adapters, "_preloaded_ssl_context", None)
        truststore.inject_into_ssl()
        stack.callback(truststore.extract_from_ssl)
        with guarded_session(Registry(), timeout=30) as patient:  # the system loads its trust store
            assert patient.get(server.url, verify=session.verify).status_code == 200
        server.act = act

        assert_late(registry, lambda: session.get(server.url, timeout=5))


def test_wait_for_a_connection_of_a_blocking_pool_is_within_the_deadline_and_no_failure(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    adapter = CircuitBreakerAdapter(registry, "d", timeout=DEADLINE, pool_maxsize=1, pool_block=True)
    session.mount("http://", adapter)
    held, begin = session.get(server.url, stream=True), time.monotonic()

    with pytest.raises(PoolTimeoutError) as caught:
        session.get(server.url, timeout=5)

    assert DEADLINE * 0.8 < time.monotonic() - begin < DEADLINE + 1.5
    assert isinstance(caught.value, requests.ConnectTimeout)
    assert caught.value.request is not None
    assert counted(registry.get("d")) == (0, 0, 1)
    held.close()
    assert [session.get(server.url).status_code for _ in range(2)] == [200, 200]


class Unanswering:
    """An address that drops packets: it listens, with a full backlog."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self.address = "127.0.0.66"
        full = stack.enter_context(socket.socket())
        full.bind((self.address, port))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((self.address, port))
        threading.Event().wait(0.05)


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a resolver for `two.test`."""
    found = socket.getaddrinfo

    def resolve(*addresses: str) -> None:
        def named(host: str, port: Any, *args: Any, **options: Any) -> list[Any]:
            if host != "two.test":
                return found(host, port, *args, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", named)

    return resolve


@pytest.mark.parametrize("dead", [1, 3])
def test_addresses_that_do_not_respond_leave_time_for_one_that_does(
    server: Server, registry: Registry, session: requests.Session, resolve: Callable[..., None], dead: int
) -> None:
    port = int(server.url.rpartition(":")[2])
    url = f"http://two.test:{port}"
    with ExitStack() as stack:
        resolve(*[Unanswering(port, stack).address] * dead, "127.0.0.1")

        assert session.get(url, timeout=5).status_code == 200
        assert HTTPClient(url, DEADLINE, CircuitBreaker("c")).get_json("/a") == {}
        session.close()
        resolve(*["127.0.0.66"] * dead)
        assert_late(registry, lambda: session.get(url, timeout=5), requests.ConnectTimeout)


class SlowHandshake(Secure):
    def _serve(self, connection: socket.socket) -> None:
        threading.Event().wait(DEADLINE * 0.6)
        super()._serve(connection)


def test_address_that_connects_has_the_remaining_time(
    pem: str, session: requests.Session, resolve: Callable[..., None]
) -> None:
    server = SlowHandshake(pem)
    resolve("127.0.0.1", "127.0.0.66")
    session.verify = False

    with pytest.warns(match="Unverified"):
        assert session.get(server.url.replace("127.0.0.1", "two.test")).status_code == 200

    server.close()


def test_function_of_urllib3_that_others_replace_chooses_the_address(
    server: Server, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, asked = urllib3_connection.create_connection, []

    def elsewhere(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        asked.append(address[0])
        return connect(("127.0.0.1", address[1]), *args, **options)

    monkeypatch.setattr(urllib3_connection, "create_connection", elsewhere)

    assert session.get(server.url.replace("127.0.0.1", "nowhere.test")).status_code == 200
    assert asked == ["nowhere.test"]


def test_source_address_of_an_adapter_is_where_its_connections_come_from(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    class Mine(CircuitBreakerAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, source_address=("127.0.0.9", 0))

    came: list[str] = []
    server.act = lambda connection: (came.append(connection.getpeername()[0]), answer(200, "{}")(connection))[1]
    session.mount("http://", Mine(registry, "d", timeout=5))

    session.get(server.url)

    assert came == ["127.0.0.9"]


def tunnel(connection: socket.socket, target: str) -> None:
    host, _, port = target.partition(":")
    with socket.create_connection((host, int(port))) as there:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        back = threading.Thread(target=pump, args=(there, connection), daemon=True)
        back.start()
        pump(connection, there)


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def proxy(server: Server) -> Server:
    server.act = lambda connection: tunnel(connection, server.requests[-1].split()[1])
    return server


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_deadline_holds_through_a_proxy(
    server: Server,
    serve: Callable[[], Secure],
    registry: Registry,
    session: requests.Session,
    act: Act,
    *,
    secure: bool,
) -> None:
    behind, between = serve(), proxy(serve() if secure else server)
    session.proxies = {"https": between.url}
    assert session.get(behind.url).status_code == 200
    behind.act = act

    assert_late(registry, lambda: session.get(behind.url, timeout=5))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_deadline_holds_for_a_slow_proxy(
    server: Server, serve: Callable[[], Secure], registry: Registry, session: requests.Session, scheme: str
) -> None:
    session.proxies = {scheme: server.url}
    server.act = drip_headers

    assert_late(registry, lambda: session.get(f"{scheme}://{serve().url.partition('//')[2]}", timeout=5))


def interim_answers(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        threading.Event().wait(0.05)


def test_interim_responses_end_at_the_deadline(server: Server, registry: Registry, session: requests.Session) -> None:
    server.act = interim_answers

    assert_late(registry, lambda: session.post(server.url, data=b"x", headers={"Expect": "100-continue"}))


class Pipe(HTTPConnection):
    """A connection that connects in a way of its own, as over a UNIX socket."""

    def connect(self) -> None:
        self.sock = socket.create_connection((self.host, self.port or 80), self.timeout)


class PipePool(HTTPConnectionPool):
    def _new_conn(self) -> Any:
        return Pipe(self.host, self.port, timeout=self.timeout.connect_timeout)


class PipeAdapter(CircuitBreakerAdapter):
    pool: type[HTTPConnectionPool] = PipePool

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        host, _, port = request.url.split("/")[2].partition(":")
        return self.pool(host, int(port))

    _get_connection = get_connection_with_tls_context  # as requests 2.32.0 and 2.32.1 have it


def test_deadline_holds_on_connections_of_a_subclass(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", PipeAdapter(registry, "d", timeout=DEADLINE))
    assert session.get(server.url).status_code == 200
    server.act = drip_body

    assert_late(registry, lambda: session.get(server.url, timeout=5))


def test_deadline_that_cannot_hold_is_logged_once(
    server: Server, registry: Registry, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    class Untouched(PipeAdapter):
        def cert_verify(self, conn: Any, *_: Any) -> None:
            """Do nothing, as some adapters do to skip verification."""

    session.mount("http://", Untouched(registry, "d", timeout=DEADLINE))
    with caplog.at_level(logging.WARNING, "cb"):
        for _ in range(2):
            assert session.get(server.url, stream=True).content == b"{}"

    assert [record.getMessage()[:28] for record in caplog.records] == ["the deadline does not hold o"]


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, time, requests
from cb import Registry
from cb.http import guarded_session
registry = Registry()
session = guarded_session(registry, "d", timeout=0.4)
session.verify = sys.argv[2]
begin = time.monotonic()
try:
    session.get(sys.argv[1], timeout=5)
except requests.RequestException:
    print(registry.get("d").snapshot().totals.failures, time.monotonic() - begin < 2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="gevent is installed elsewhere only")
@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_deadline_holds_on_sockets_of_gevent(serve: Callable[[], Secure], pem: str, act: Act) -> None:
    server = serve()
    server.act = act

    done = subprocess.run(
        [sys.executable, "-c", GEVENT, server.url, pem], capture_output=True, text=True, check=False, timeout=30
    )

    assert done.stdout == "1 True\n", done.stderr


#: in a process of its own: a child of a fork in C waits for ever if another thread requests the GIL at that moment
FORK = """
import ctypes, os, sys
from cb import Registry
from cb.http import guarded_session
session = guarded_session(Registry(), "d", timeout=5)
session.get(sys.argv[1])
pid = ctypes.PyDLL(None).fork()  # as in uWSGI: Python runs no fork hooks
if pid == 0:
    status = 1
    try:
        status = int(session.get(sys.argv[1]).status_code != 200)
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
session.get(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_of_a_fork_without_hooks_opens_new_connections(server: Server) -> None:
    command = [sys.executable, "-c", FORK, server.url]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert (done.returncode, done.stderr) == (0, "")
    assert server.connections == 2
