"""Every row of the table in docs/http.md, for each client, on real sockets."""

import os
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from cb import BreakerConfig, CircuitBreaker, Registry
from cb.http import BodyTooLargeError, CircuitBreakerAdapter, HTTPClient
from tests.http.clients import ALL_CLIENTS, Client, raised
from tests.support.misbehaving import (
    Act,
    Server,
    answer,
    answer_and_hang_up,
    drip_body,
    drip_headers,
    reset,
    send_half,
    send_much,
    send_no_http,
    stay_silent,
)

pytestmark = pytest.mark.quiet

DEADLINE, SHORT = 0.4, 0.2
NEVER_OPENS = BreakerConfig(failure_threshold=None, minimum_requests=1_000_000)
ACTS: dict[str, list[Act]] = {
    "responds with 200": [answer(200, "{}")],
    "responds with 404": [answer(404, "{}")],
    "responds with 429 or 500 to 599": [
        answer(status, "{}") for status in (429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 530, 599)
    ],
    "responds with 501, 505 or 510": [answer(status, "{}") for status in (501, 505, 510)],
    "refuses the connection": [],
    "resets the connection": [reset],
    "accepts and never responds": [stay_silent],
    "sends its headers slowly": [drip_headers],
    "sends its body slowly": [drip_body],
    "cuts off its body": [send_half],
    "sends more than `max_body_bytes`": [send_much],
    "responds with something other than HTTP": [send_no_http],
    "responds with something other than JSON": [answer(200, "{")],
    "redirects elsewhere": [answer(302, "", "Location: /elsewhere")],
    "closes idle connections": [answer_and_hang_up] * 3,
}
PAGE = Path("docs/http.md").read_text()
HEAD, *TABLE = re.findall(
    r"^\| (.*) \|$", PAGE[PAGE.index("| The dependency | requests |") :].partition("\n\n")[0], re.MULTILINE
)
#: by what the dependency does and by client: the outcome, and the response or the error
ROWS = {
    what: dict(zip(HEAD.split(" | ")[1:], (tuple(cell.split(": ")) for cell in cells), strict=True))
    for what, *cells in (line.split(" | ") for line in TABLE[1:])
}


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=NEVER_OPENS)


@pytest.fixture
def session(registry: Registry) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", CircuitBreakerAdapter(registry, "d", timeout=DEADLINE, max_body_bytes=10 << 20))
        yield session


def limit_of(what: str) -> float:
    """Return a short time limit for what exceeds any."""
    return SHORT if {*ACTS[what]} & {stay_silent, drip_headers, drip_body} else 2.0


def unused_url() -> str:
    """Return the URL of a port without a listener."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def tried(call: Callable[[], object], otherwise: str) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the table has the name of any exception
        return raised(error)
    return otherwise


def counted(breaker: CircuitBreaker, before: tuple[int, int]) -> str:
    totals = breaker.snapshot().totals
    names = {(1, 0): "success", (0, 1): "failure", (0, 0): "neither"}
    return names[totals.successes - before[0], totals.failures - before[1]]


def test_table_has_every_failure_of_a_dependency() -> None:
    assert set(ROWS) == set(ACTS)


@pytest.mark.parametrize("kind", ALL_CLIENTS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("what", ACTS)
def test_request_counts_and_returns_as_in_the_table(
    what: str, kind: type[Client], server: Server, registry: Registry
) -> None:
    breaker = registry.get("d")
    with kind().open(registry, "d", timeout=limit_of(what), max_body_bytes=1 << 20) as client:
        for act in ACTS[what] or [reset]:
            server.act = act
            threading.Event().wait(0.02)  # both ends must see a closed connection
            url = server.url if ACTS[what] else unused_url()
            totals = breaker.snapshot().totals
            begin = time.monotonic()
            got = tried(lambda: client.get(url, timeout=5), "response")  # noqa: B023 - called at once
            assert time.monotonic() - begin < limit_of(what) + 0.25
            expected = ROWS[what][kind.name.partition(",")[0]]
            assert (counted(breaker, (totals.successes, totals.failures)), got) == expected
    assert breaker.snapshot().in_flight == 0


@pytest.mark.parametrize("what", ACTS)
def test_client_counts_and_raises_as_in_the_table(what: str, server: Server) -> None:
    breaker = CircuitBreaker("d", NEVER_OPENS)
    client = HTTPClient(server.url if ACTS[what] else unused_url(), limit_of(what), breaker)
    for act in ACTS[what] or [reset]:
        server.act = act
        threading.Event().wait(0.02)
        totals = breaker.snapshot().totals
        begin = time.monotonic()
        got = tried(lambda: client.get_json("/a"), "JSON")
        assert time.monotonic() - begin < limit_of(what) + 0.25
        assert (counted(breaker, (totals.successes, totals.failures)), got) == ROWS[what]["`HTTPClient`"]


@pytest.mark.parametrize("act", [stay_silent, drip_headers, drip_body])
def test_32_threads_are_blocked_no_longer_than_their_deadline(
    act: Act, server: Server, session: requests.Session, registry: Registry
) -> None:
    server.act = act

    def held() -> float:
        begin = time.monotonic()
        tried(lambda: session.get(server.url, timeout=5), "response")
        return time.monotonic() - begin

    with ThreadPoolExecutor(32) as pool:
        waits = sorted(pool.map(lambda _: held(), range(32)))
    assert registry.get("d").snapshot().totals.failures == 32
    assert waits[16] < DEADLINE + 0.05
    assert waits[-1] < DEADLINE + 0.5  # two cores have to wake 64 threads


def test_endless_responses_cost_no_memory_and_no_descriptor(server: Server, session: requests.Session) -> None:
    server.act = send_much
    tried(lambda: session.get(server.url, timeout=5), "response")
    files, memory = open_files(), resident()
    for _ in range(5):
        assert tried(lambda: session.get(server.url, timeout=5), "response") == "BodyTooLargeError"
    threading.Event().wait(0.1)
    assert open_files() <= files + 1
    assert resident() - memory < 50_000_000


def test_streamed_body_counts_when_it_is_read_and_when_it_is_closed(
    server: Server, session: requests.Session, registry: Registry
) -> None:
    breaker = registry.get("d")
    server.act = answer(200, "streamed")
    response = session.get(server.url, timeout=5, stream=True)
    assert breaker.snapshot().in_flight == 1
    assert b"".join(response.iter_content(4)) == b"streamed"
    assert (breaker.snapshot().in_flight, breaker.snapshot().totals.successes) == (0, 1)
    session.get(server.url, timeout=5, stream=True).close()
    assert (breaker.snapshot().in_flight, breaker.snapshot().totals.successes) == (0, 2)


def test_streamed_body_that_is_collected_unread_counts_as_neither(
    server: Server, session: requests.Session, registry: Registry
) -> None:
    server.act = answer(200, "streamed")
    session.get(server.url, timeout=5, stream=True)
    registry.get("d").control.evaluate()
    totals = registry.get("d").snapshot().totals
    assert (totals.neutral, totals.successes, registry.get("d").snapshot().in_flight) == (1, 0, 0)


def test_url_that_cannot_be_requested_counts_as_neither(session: requests.Session, registry: Registry) -> None:
    request = requests.Request("GET", "http://127.0.0.1/").prepare()
    request.url = "http://[/"
    with pytest.raises(ValueError):
        session.get_adapter("http://").send(request)
    assert registry.get("d").snapshot().totals.requests == 0


def test_response_with_two_lengths_is_a_failure(server: Server, session: requests.Session, registry: Registry) -> None:
    server.act = answer(200, "{}", "Content-Length: 7")
    with pytest.raises(requests.exceptions.InvalidHeader):
        session.get(server.url, timeout=5)
    assert registry.get("d").snapshot().totals.failures == 1


def test_lines_of_a_raw_body_are_read_and_counted(
    server: Server, session: requests.Session, registry: Registry
) -> None:
    server.act = answer(200, "one\ntwo\n")
    assert list(session.get(server.url, timeout=5, stream=True).raw) == [b"one\n", b"two\n"]
    assert registry.get("d").snapshot().totals.successes == 1


def send_much_and_fail(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 Word\r\n\r\n")
    for _ in range(100):
        connection.sendall(bytes(1 << 20))
    connection.close()


def send_one_large_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (100 << 20))
    for _ in range(100):
        connection.sendall(bytes(1 << 20))
    connection.close()


@pytest.mark.parametrize(
    ("act", "read", "outcome"),
    [
        (send_much_and_fail, lambda response: response.content, (0, 1, 0)),
        (send_much_and_fail, lambda response: response.raw.read(), (0, 1, 0)),
        (send_one_large_chunk, lambda response: b"".join(response.iter_content(None)), (0, 0, 1)),
        (send_one_large_chunk, lambda response: response.raw.read(), (0, 0, 1)),
    ],
)
def test_endless_body_is_limited_however_it_is_read(
    server: Server,
    session: requests.Session,
    registry: Registry,
    *,
    act: Act,
    read: Callable[[requests.Response], bytes],
    outcome: tuple[int, int, int],
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, "d", timeout=20, max_body_bytes=1 << 20))
    server.act = act
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            read(session.get(server.url, timeout=5, stream=True))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    totals = registry.get("d").snapshot().totals
    assert (totals.successes, totals.failures, totals.neutral) == outcome
