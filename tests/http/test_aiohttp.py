"""The middleware of aiohttp alone."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from cb import BreakerConfig, Bulkhead, CircuitBreaker, Registry, State
from cb.http import circuit_breaker_middleware
from cb.testing import breaker_in
from tests.http.bodies import LINES, send
from tests.http.clients import counts
from tests.http.conftest import Secure
from tests.support import ROOT
from tests.support.misbehaving import Act, Server, answer, drip_body, drip_headers, reset, stay_silent

pytestmark = pytest.mark.quiet

DEADLINE = 0.3


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=None, minimum_requests=1_000))


def run(
    work: Callable[[aiohttp.ClientSession], Awaitable[Any]],
    guard: Any,
    *,
    options: dict[str, Any] | None = None,
    **session: Any,
) -> Any:
    """Run a coroutine function with a session of its own."""

    async def main() -> Any:
        middleware = circuit_breaker_middleware(guard, **(options or {"name": "d"}))
        if "limit" in session:
            session["connector"] = aiohttp.TCPConnector(limit=session.pop("limit"))
        try:
            async with aiohttp.ClientSession(middlewares=(middleware,), **session) as client:
                return await work(client)
        finally:
            await asyncio.sleep(0.01)  # connections of TLS close after it

    return asyncio.run(main())


async def by_lines(response: aiohttp.ClientResponse) -> bytes:
    return b"".join([line async for line in response.content])


async def by_chunks(response: aiohttp.ClientResponse) -> bytes:
    return b"".join([chunk async for chunk in response.content.iter_chunked(100)])


async def by_http_chunks(response: aiohttp.ClientResponse) -> bytes:
    return b"".join([chunk async for chunk, _ in response.content.iter_chunks()])


async def by_any(response: aiohttp.ClientResponse) -> bytes:
    return b"".join([chunk async for chunk in response.content.iter_any()])


READERS: dict[str, Callable[[aiohttp.ClientResponse], Awaitable[bytes]]] = {
    "read": lambda response: response.read(),
    "content.read": lambda response: response.content.read(),
    "readexactly": lambda response: response.content.readexactly(len(LINES)),
    "readuntil": lambda response: response.content.readuntil(LINES),
    "lines": by_lines,
    "iter_chunked": by_chunks,
    "iter_chunks": by_http_chunks,
    "iter_any": by_any,
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reader", READERS)
def test_body_is_counted_however_it_is_read(server: Server, registry: Registry, reader: str, *, chunked: bool) -> None:
    async def get(session: aiohttp.ClientSession) -> None:
        server.act = send(LINES, chunked=chunked)
        async with session.get(server.url) as response:
            got = await READERS[reader](response)
        assert LINES.startswith(got)
        server.act = send(LINES[:-20], claimed=2 * len(LINES), chunked=chunked)
        with pytest.raises((aiohttp.ClientPayloadError, asyncio.IncompleteReadError)):
            async with session.get(server.url) as response:
                await READERS[reader](response)

    run(get, registry)
    assert (counts(registry), registry.get("d").snapshot().in_flight) == ((1, 1, 0), 0)


@pytest.mark.parametrize("act", [stay_silent, drip_body])
def test_request_that_is_cancelled_early_counts_as_neither(server: Server, registry: Registry, act: Act) -> None:
    server.act = act

    async def get(session: aiohttp.ClientSession) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), session.get(server.url) as response:
                await response.read()

    run(get, registry)
    assert (counts(registry), registry.get("d").snapshot().in_flight) == ((0, 0, 1), 0)


def test_read_that_is_cancelled_may_be_repeated(server: Server, registry: Registry) -> None:
    def act(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        threading.Event().wait(0.2)
        connection.sendall(b"four")

    server.act = act

    async def get(session: aiohttp.ClientSession) -> bytes:
        async with session.get(server.url) as response:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await response.content.read(4)
            return await response.content.read(4)

    assert run(get, registry) == b"four"
    assert counts(registry) == (1, 0, 0)


def test_cancelled_probe_gives_its_permit_back(server: Server) -> None:
    server.act = stay_silent
    breaker = breaker_in(State.HALF_OPEN)

    async def get(session: aiohttp.ClientSession) -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await session.get(server.url)

    run(get, breaker, options={"timeout": 5})
    assert breaker.state is State.HALF_OPEN


def test_repetition_by_aiohttp_is_the_attempt_that_counts(server: Server, registry: Registry) -> None:
    async def get(session: aiohttp.ClientSession) -> None:
        server.act = reset
        for method in ("GET", "GET", "POST"):
            with pytest.raises(aiohttp.ClientOSError, match="the connection was reset before a response"):
                await session.request(method, server.url)

    run(get, registry)
    assert (counts(registry), len(server.requests)) == ((0, 3, 2), 5)


def test_probe_that_aiohttp_repeats_opens_the_circuit_again(server: Server) -> None:
    server.act = reset
    breaker = breaker_in(State.HALF_OPEN, BreakerConfig(max_requests=1, success_threshold=1))

    async def get(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientOSError):
            await session.get(server.url)

    run(get, breaker, options={"timeout": 5})
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("act", [stay_silent, drip_body])
def test_timeout_of_the_session_is_a_failure(server: Server, registry: Registry, act: Act) -> None:
    server.act = act

    async def get(session: aiohttp.ClientSession) -> None:
        with pytest.raises(TimeoutError):
            async with session.get(server.url) as response:
                await response.read()

    run(get, registry, timeout=aiohttp.ClientTimeout(total=0.1))
    run(get, registry, timeout=aiohttp.ClientTimeout(sock_read=0.02 if act is drip_body else 0.1))
    assert (counts(registry), registry.get("d").snapshot().in_flight) == ((0, 2, 0), 0)


@pytest.mark.parametrize("timeout", [{"total": 0.1}, {"connect": 0.1}])
def test_timeout_of_the_session_in_the_queue_of_the_pool_counts_as_neither(
    server: Server, registry: Registry, timeout: dict[str, float]
) -> None:
    server.act = send(b"x" * 3_000_000)

    async def get(session: aiohttp.ClientSession) -> None:
        async with session.get(server.url):
            with pytest.raises(TimeoutError):
                await session.get(server.url, timeout=aiohttp.ClientTimeout(**timeout))

    run(get, registry, limit=1)
    assert counts(registry) == (1, 0, 1)


@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_deadline_holds_over_tls(serve: Callable[[], Secure], registry: Registry, pem: str, act: Act) -> None:
    server = serve()
    server.act = act

    async def get(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.SocketTimeoutError, match=rf"^GET {server.url}: .* within 0.3 s$"):
            async with session.get(server.url, ssl=ssl.create_default_context(cafile=pem)) as response:
                await response.read()
        server.close()  # asyncio waits for the peer to close TLS, for longer than this loop runs
        await asyncio.sleep(0.05)

    begin = time.monotonic()
    run(get, registry, options={"name": "d", "timeout": DEADLINE})
    assert DEADLINE * 0.8 < time.monotonic() - begin < DEADLINE + 1
    assert counts(registry) == (0, 1, 0)


def test_handshake_that_is_not_answered_ends_at_the_deadline(registry: Registry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}"

        async def get(session: aiohttp.ClientSession) -> None:
            with pytest.raises(aiohttp.ConnectionTimeoutError, match=rf"^GET {url}: no connection within 0.3 s$"):
                await session.get(url)
            deaf.close()  # asyncio closes a transport with a pending handshake when its peer does
            await asyncio.sleep(0.05)

        run(get, registry, options={"name": "d", "timeout": DEADLINE})
    assert counts(registry) == (0, 1, 0)


def test_certificate_of_another_host_is_named_in_the_error(
    serve: Callable[[], Secure], registry: Registry, pem: str
) -> None:
    url = serve().url.replace("127.0.0.1", "localhost")

    async def get(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
            await session.get(url, ssl=ssl.create_default_context(cafile=pem))
        assert str(caught.value).startswith(f"GET {url}: the certificate is not trusted: Hostname mismatch")

    run(get, registry)
    assert counts(registry) == (0, 1, 0)


def test_host_that_cannot_be_resolved_is_a_failure(registry: Registry) -> None:
    async def get(session: aiohttp.ClientSession) -> None:
        text = r"^GET http://nowhere\.invalid: the name of the host cannot be resolved"
        with pytest.raises(aiohttp.ClientConnectorDNSError, match=text):
            await session.get("http://nowhere.invalid/")

    run(get, registry)
    assert counts(registry) == (0, 1, 0)


def test_proxy_that_is_down_is_named_in_the_error(registry: Registry) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{bound.getsockname()[1]}"

        async def get(session: aiohttp.ClientSession) -> str:
            with pytest.raises(aiohttp.ClientProxyConnectionError) as caught:
                await session.get("http://service.test/", proxy=proxy)
            return str(caught.value)

        text = run(get, registry)
    assert text == f"GET http://service.test: the proxy {proxy} cannot be used: cannot connect (Connection refused)"


@pytest.mark.parametrize("url", ["http://", "http://a b/", "ftp://127.0.0.1/", "nonsense"])
def test_url_that_cannot_be_requested_creates_no_breaker(registry: Registry, url: str) -> None:
    async def get(session: aiohttp.ClientSession) -> None:
        with pytest.raises((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
            await session.get(url)

    run(get, registry, options={"timeout": 5})
    assert list(registry) == []


def test_upgraded_connection_is_a_success_at_once(server: Server, registry: Registry) -> None:
    def act(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n")
        connection.recv(1)

    server.act = act

    async def get(session: aiohttp.ClientSession) -> None:
        async with session.get(server.url, headers={"Connection": "upgrade", "Upgrade": "own"}) as response:
            assert (counts(registry), registry.get("d").snapshot().in_flight) == ((1, 0, 0), 0)
            response.close()

    run(get, registry)


def test_redirects_are_counted_for_each_hop(server: Server, registry: Registry) -> None:
    def act(connection: socket.socket) -> None:
        moved = server.requests[-1].startswith("GET /old ")
        (answer(302, "", "Location: /new") if moved else answer(200, "{}"))(connection)

    server.act = act

    async def get(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{server.url}/old") as response:
            assert await response.json() == {}

    run(get, registry)
    assert counts(registry) == (2, 0, 0)


def test_session_that_is_closed_during_a_body_is_no_failure(server: Server, registry: Registry) -> None:
    server.act = drip_body

    async def get(session: aiohttp.ClientSession) -> None:
        response = await session.get(server.url)
        await session.close()
        with pytest.raises((aiohttp.ClientError, RuntimeError)):
            await response.read()

    run(get, registry)
    assert (counts(registry), registry.get("d").snapshot().in_flight) == ((1, 0, 0), 0)


def test_tasks_wait_for_a_bulkhead_without_holding_their_loop(server: Server) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d"), 1, wait=2)

    async def get(session: aiohttp.ClientSession) -> list[int]:
        async def one() -> int:
            async with session.get(server.url) as response:
                await response.read()
                return response.status

        return await asyncio.gather(*(one() for _ in range(5)))

    assert run(get, bulkhead, options={"timeout": 5}) == [200] * 5


def test_repr_names_the_guard(registry: Registry) -> None:
    assert repr(circuit_breaker_middleware(registry)) == f"<circuit_breaker_middleware of each origin in {registry!r}>"


#: without the other libraries
ALONE = """
import sys
import threading
sys.modules.update(requests=None, urllib3=None, httpx=None, httpcore=None)
import asyncio
import aiohttp
from cb import Registry
from cb.http import BodyTooLargeError, CircuitOpenClientError, circuit_breaker_middleware

async def main():
    async with aiohttp.ClientSession(middlewares=(circuit_breaker_middleware(Registry()),)) as session:
        async with session.get(sys.argv[1]) as response:
            print(response.status, await response.json())

asyncio.run(main())
"""


def test_middleware_needs_aiohttp_alone(server: Server) -> None:
    command = [sys.executable, "-c", ALONE, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("200 {}\n", "")
