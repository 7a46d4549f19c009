"""The transports of httpx alone."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from http.client import IncompleteRead
from typing import Any

import httpcore
import httpx
import pytest
import trio

from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, ConfigError, Registry, State
from cb.http import AsyncCircuitBreakerTransport, CircuitBreakerTransport, CircuitOpenTransportError
from cb.testing import breaker_in
from tests.http.clients import counts
from tests.http.conftest import Secure
from tests.support import ROOT
from tests.support.misbehaving import Act, Server, answer, drip_body, drip_headers, stay_silent

pytestmark = pytest.mark.quiet

DEADLINE = 0.3


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=None, minimum_requests=1_000))


@pytest.fixture
def client(registry: Registry, pem: str) -> Iterator[httpx.Client]:
    transport = CircuitBreakerTransport(registry, "d", timeout=DEADLINE, verify=ssl.create_default_context(cafile=pem))
    with httpx.Client(transport=transport) as client:
        yield client


def assert_late(registry: Registry, call: Callable[[], object]) -> None:
    """Assert that a call ends at the deadline, as a failure."""
    begin, before = time.monotonic(), counts(registry)
    with pytest.raises(httpx.TimeoutException):
        call()
    assert DEADLINE * 0.8 < time.monotonic() - begin < DEADLINE + 1
    assert counts(registry) == (before[0], before[1] + 1, before[2])


@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_deadline_holds_over_tls(
    serve: Callable[[], Secure], registry: Registry, client: httpx.Client, act: Act
) -> None:
    server = serve()
    server.act = act

    assert_late(registry, lambda: client.get(server.url))


def test_certificate_of_another_host_is_named_in_the_error(
    serve: Callable[[], Secure], registry: Registry, client: httpx.Client
) -> None:
    url = serve().url.replace("127.0.0.1", "localhost")

    with pytest.raises(httpx.ConnectError) as caught:
        client.get(url)

    assert str(caught.value).startswith(f"GET {url}: the certificate is not trusted: Hostname mismatch")
    assert counts(registry) == (0, 1, 0)


def test_handshake_that_is_not_answered_ends_at_the_deadline(registry: Registry, client: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        assert_late(registry, lambda: client.get(url))


def test_shorter_timeout_of_httpx_holds_within_the_deadline(server: Server, registry: Registry) -> None:
    server.act = stay_silent
    with (
        httpx.Client(transport=CircuitBreakerTransport(registry, "d"), timeout=httpx.Timeout(5, read=0.1)) as client,
        pytest.raises(httpx.ReadTimeout, match=r"no response within 0.1 s"),
    ):
        client.get(server.url)
    assert counts(registry) == (0, 1, 0)


def test_upload_that_is_not_read_ends_at_the_deadline(registry: Registry, client: httpx.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        assert_late(registry, lambda: client.post(url, content=bytes(20_000_000)))


def test_repeated_connection_attempts_end_at_the_deadline(registry: Registry) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        transport = CircuitBreakerTransport(registry, "d", timeout=DEADLINE, retries=5)
        with httpx.Client(transport=transport) as client:
            assert_late(registry, lambda: client.get(url))


def unanswering(port: int, stack: ExitStack) -> str:
    """Return an address that drops packets: it listens, with a full backlog."""
    full = stack.enter_context(socket.socket())
    full.bind(("127.0.0.67", port))
    full.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.67", port))
    threading.Event().wait(0.05)
    return "127.0.0.67"


def test_addresses_that_do_not_respond_leave_time_for_one_that_does(
    server: Server, registry: Registry, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server.url.rpartition(":")[2])
    found = socket.getaddrinfo
    with ExitStack() as stack:
        addresses = [unanswering(port, stack), "127.0.0.1"]

        def named(host: str, port: Any, *args: Any, **options: Any) -> list[Any]:
            if host != "two.test":
                return found(host, port, *args, **options)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", named)

        assert client.get(f"http://two.test:{port}").status_code == 200
        addresses.pop()
        with httpx.Client(transport=CircuitBreakerTransport(registry, "d", timeout=DEADLINE)) as other:
            assert_late(registry, lambda: other.get(f"http://two.test:{port}"))


def test_host_that_cannot_be_resolved_is_a_failure(registry: Registry, client: httpx.Client) -> None:
    with pytest.raises(
        httpx.ConnectError, match=r"GET http://nowhere\.invalid: the name of the host cannot be resolved"
    ):
        client.get("http://nowhere.invalid/")
    assert counts(registry) == (0, 1, 0)


@pytest.mark.parametrize("url", ["http://a b/", "http://"])
def test_url_that_cannot_be_requested_creates_no_breaker(registry: Registry, url: str) -> None:
    transport = CircuitBreakerTransport(registry)
    with pytest.raises((httpx.InvalidURL, httpx.UnsupportedProtocol)):
        transport.handle_request(httpx.Request("GET", url))
    assert list(registry) == []


def test_scheme_that_is_not_supported_counts_as_neither(registry: Registry, client: httpx.Client) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        client.get("ftp://127.0.0.1/")
    assert counts(registry) == (0, 0, 1)


def test_header_that_cannot_be_sent_counts_as_neither(server: Server, registry: Registry, client: httpx.Client) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        client.get(server.url, headers={"X-Broken": "a\r\nb"})
    assert counts(registry) == (0, 0, 1)


def test_proxy_that_is_down_is_named_in_the_error(registry: Registry) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{bound.getsockname()[1]}"
        inside = httpx.HTTPTransport(proxy=httpx.Proxy(proxy, auth=("user", "secret")))
        transport = CircuitBreakerTransport(registry, "d", inside)
        with httpx.Client(transport=transport) as client, pytest.raises(httpx.ConnectError) as caught:
            client.get("http://service.test/")
    reason = f"the proxy {proxy} cannot be used: cannot connect (Connection refused)"
    assert str(caught.value) == f"GET http://service.test: {reason}"


def test_transport_in_memory_counts_when_it_returns(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    inside = httpx.MockTransport(lambda request: httpx.Response(503 if request.url.path == "/down" else 200, json={}))
    with httpx.Client(transport=CircuitBreakerTransport(registry, "d", inside)) as client:
        assert [client.get(f"http://service.test{path}").status_code for path in ("/", "/down")] == [200, 503]
    assert counts(registry) == (1, 1, 0)
    assert not caplog.records


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ConnectError("refused"), (0, 1, 0)),
        (httpcore.ReadTimeout("of a transport that does not translate it"), (0, 1, 0)),
        (TimeoutError("of sockets"), (0, 1, 0)),
        (IncompleteRead(b""), (0, 1, 0)),
        (httpcore.PoolTimeout(), (0, 0, 1)),
        (RuntimeError("a mistake"), (0, 0, 1)),
        (KeyError("a mistake"), (0, 0, 1)),
    ],
)
def test_error_of_a_transport_is_the_dependency_s_or_the_caller_s(
    registry: Registry, error: Exception, outcome: tuple[int, int, int]
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    async def get() -> None:
        inside = AsyncCircuitBreakerTransport(registry, "d", httpx.MockTransport(fail))
        async with httpx.AsyncClient(transport=inside) as client:
            await client.get("http://service.test/")

    with pytest.raises(type(error)) as caught:
        asyncio.run(get())
    assert (caught.value, counts(registry)) == (error, outcome)


def test_deadline_of_a_transport_without_a_pool_is_logged_once(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    class Own(httpx.BaseTransport):
        pass

    for _ in range(2):
        CircuitBreakerTransport(registry, "d", Own())
    assert [record.getMessage()[:28] for record in caplog.records] == ["the deadline does not hold i"]


def test_deadline_holds_in_a_transport_within_a_transport(server: Server, registry: Registry) -> None:
    class Logging(httpx.BaseTransport):
        def __init__(self, wrapped: httpx.BaseTransport) -> None:
            self.wrapped = wrapped

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self.wrapped.handle_request(request)

    server.act = drip_headers
    inside = Logging(httpx.HTTPTransport())
    with httpx.Client(transport=CircuitBreakerTransport(registry, "d", inside, timeout=DEADLINE)) as client:
        assert_late(registry, lambda: client.get(server.url))
        inside.wrapped.close()


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    await (asyncio.sleep if "asyncio" in scope["path"] else trio.sleep)(5)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_deadline_holds_in_an_app_in_memory(registry: Registry, library: str) -> None:
    async def get() -> None:
        inside = httpx.ASGITransport(app=slow_app)
        transport = AsyncCircuitBreakerTransport(registry, "d", inside, timeout=DEADLINE)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(f"http://service.test/{library}")

    assert_late(registry, lambda: asyncio.run(get()) if library == "asyncio" else trio.run(get))


def test_options_of_the_default_transport_need_that_transport() -> None:
    with pytest.raises(ConfigError, match="options must be given to the transport inside"):
        CircuitBreakerTransport(Registry(), transport=httpx.HTTPTransport(), http2=False)


def test_repr_names_guard_and_class(registry: Registry) -> None:
    assert repr(CircuitBreakerTransport(registry)) == f"<CircuitBreakerTransport of each origin in {registry!r}>"
    assert repr(AsyncCircuitBreakerTransport(registry, "d")) == f"<AsyncCircuitBreakerTransport of 'd' in {registry!r}>"


def test_timeouts_of_the_request_itself_are_left_as_they_are(server: Server, client: httpx.Client) -> None:
    request = client.build_request("GET", server.url)
    before = dict(request.extensions)
    client.send(request)
    assert (request.extensions, type(request.stream)) == (before, httpx.ByteStream)


def test_redirects_are_counted_for_each_hop(server: Server, registry: Registry, client: httpx.Client) -> None:
    def act(connection: socket.socket) -> None:
        moved = server.requests[-1].startswith("GET /old ")
        (answer(302, "", "Location: /new") if moved else answer(200, "{}"))(connection)

    server.act = act
    assert client.get(f"{server.url}/old", follow_redirects=True).status_code == 200
    assert counts(registry) == (2, 0, 0)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
@pytest.mark.parametrize("act", [stay_silent, drip_body])
def test_request_that_is_cancelled_early_counts_as_neither(
    server: Server, registry: Registry, library: str, act: Act
) -> None:
    server.act = act

    async def get() -> None:
        async with httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(registry, "d")) as client:
            if library == "asyncio":
                async with asyncio.timeout(0.1):
                    await client.get(server.url)
            else:
                with trio.fail_after(0.1):
                    await client.get(server.url)

    with pytest.raises((TimeoutError, trio.TooSlowError)):
        asyncio.run(get()) if library == "asyncio" else trio.run(get)
    assert (counts(registry), registry.get("d").snapshot().in_flight) == ((0, 0, 1), 0)


def test_cancelled_probe_gives_its_permit_back(server: Server) -> None:
    server.act = stay_silent
    breaker = breaker_in(State.HALF_OPEN)

    async def get() -> None:
        async with httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(breaker)) as client:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.get(server.url)

    asyncio.run(get())
    assert breaker.state is State.HALF_OPEN


def test_tasks_wait_for_a_bulkhead_without_holding_their_loop(server: Server) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d"), 1, wait=2)

    async def get() -> list[int]:
        async with httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(bulkhead)) as client:
            responses = await asyncio.gather(*(client.get(server.url) for _ in range(5)))
        return [response.status_code for response in responses]

    assert asyncio.run(get()) == [200] * 5


def test_bulkhead_without_a_wait_rejects_the_second_task(server: Server) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d"), 1)
    server.act = drip_body

    async def get() -> None:
        async with httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(bulkhead, timeout=DEADLINE)) as client:
            await asyncio.gather(client.get(server.url), client.get(server.url))

    with pytest.raises(BulkheadFullError):
        asyncio.run(get())


def test_upgraded_connection_is_a_success_at_once(server: Server, registry: Registry, client: httpx.Client) -> None:
    def act(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\nfirst")
        connection.recv(1)

    server.act = act
    with client.stream("GET", server.url, headers={"Connection": "upgrade", "Upgrade": "own"}) as response:
        assert (counts(registry), registry.get("d").snapshot().in_flight) == ((1, 0, 0), 0)
        assert response.extensions["network_stream"].read(5) == b"first"


def test_network_stream_of_a_response_is_one_of_httpcore(server: Server, client: httpx.Client) -> None:
    with client.stream("GET", server.url) as response:
        stream = response.extensions["network_stream"]
    assert isinstance(stream, httpcore.NetworkStream)


def test_open_circuit_is_shared_by_synchronous_and_asynchronous_clients(server: Server) -> None:
    registry = Registry(defaults=BreakerConfig(failure_threshold=2))
    server.act = answer(500, "{}")

    async def get() -> None:
        async with httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(registry, "d")) as client:
            await client.get(server.url)

    with httpx.Client(transport=CircuitBreakerTransport(registry, "d")) as client:
        client.get(server.url)
        asyncio.run(get())
        with pytest.raises(CircuitOpenTransportError):
            client.get(server.url)
    with pytest.raises(CircuitOpenTransportError):
        asyncio.run(get())


def test_asynchronous_stream_that_a_task_leaves_early_is_no_failure(server: Server, registry: Registry) -> None:
    server.act = drip_body

    async def get() -> None:
        transport = AsyncCircuitBreakerTransport(registry, "d")
        async with httpx.AsyncClient(transport=transport) as client, client.stream("GET", server.url) as response:
            async for _ in response.aiter_raw():
                break

    asyncio.run(get())
    assert counts(registry) == (1, 0, 0)


def test_asynchronous_upload_of_a_file_that_fails_counts_as_neither(server: Server, registry: Registry) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"part"
        raise KeyError("part")

    async def post() -> None:
        async with httpx.AsyncClient(transport=AsyncCircuitBreakerTransport(registry, "d")) as client:
            await client.post(server.url, content=parts())

    with pytest.raises(KeyError):
        asyncio.run(post())
    assert counts(registry) == (0, 0, 1)


#: without the other library; a child of a fork uses the client of its parent
PROGRAM = """
import os, sys
sys.modules.update(requests=None, urllib3=None)
import httpx
from cb import Registry
from cb.http import BodyTooLargeError, CircuitBreakerTransport, CircuitOpenTransportError, FailureStatusError
client = httpx.Client(transport=CircuitBreakerTransport(Registry(), "d", timeout=5))
client.get(sys.argv[1])
pid = os.fork()
if pid == 0:
    status = 1
    try:
        status = int(client.get(sys.argv[1]).status_code != 200)
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
client.get(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_transport_needs_httpx_alone_and_opens_new_connections_in_a_child_of_a_fork(server: Server) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)

    assert (done.returncode, done.stderr) == (0, "")
    assert server.connections == 2
