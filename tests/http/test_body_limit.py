"""The largest body of a response: its error, and its outcome."""

import gzip
import pickle
from typing import Any

import pytest
import requests

from cb import BreakerConfig, State
from cb.http import BodyTooLargeError
from cb.testing import FakeClock
from tests.http.bodies import LINES, Asked, send
from tests.support.misbehaving import Act, Server

MEGABYTE = bytes(1_000_000)
LARGE: dict[str, tuple[Act, int | None, str]] = {
    "announced": (send(MEGABYTE), 1_000_000, "a body of 1,000,000 bytes exceeds the limit of 1,000 bytes"),
    "chunked": (send(MEGABYTE, chunked=True), None, "the body exceeds the limit of 1,000 bytes"),
    "compressed": (
        send(gzip.compress(MEGABYTE), "Content-Encoding: gzip"),
        None,
        "the body exceeds the limit of 1,000 bytes after decompression",
    ),
}


@pytest.mark.parametrize("kind", LARGE)
def test_error_of_a_body_beyond_the_limit_names_host_limit_size_and_remedy(
    asked: Asked, server: Server, kind: str
) -> None:
    asked.use(max_body_bytes=1_000)
    act, size, message = LARGE[kind]
    server.act = act

    with pytest.raises(BodyTooLargeError) as caught:
        asked.get(stream=False, params={"token": "secret"})

    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert str(error) == f"GET {server.url}: {message}; raise max_body_bytes to receive it"
        assert (error.limit, error.size, error.request.method) == (1_000, size, "GET")


def test_good_downloads_leave_the_circuit_closed(asked: Asked) -> None:
    large, config = send(bytes(12_000_000)), BreakerConfig(failure_threshold=3, minimum_requests=3)
    for limit, outcome in ((None, (3, 0, 0)), (10_000_000, (0, 0, 3))):
        asked.use(config=config, max_body_bytes=limit)
        for _ in range(3):
            try:
                assert len(asked.get(large).content) == 12_000_000
            except BodyTooLargeError:
                assert limit
        assert (asked.breaker.state, asked.outcome) == (State.CLOSED, (outcome, 0))


def test_chunk_is_read_in_parts_whatever_length_it_announces(asked: Asked) -> None:
    def endless(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n" + bytes(2 << 20))
        connection.recv(1)

    response = asked.get(endless)

    assert next(response.raw.read_chunked()) == bytes(1 << 20)


def test_probe_with_a_body_beyond_the_limit_closes_the_circuit(asked: Asked, clock: FakeClock) -> None:
    config = BreakerConfig(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1, timeout_jitter=0)
    asked.use(clock, config, max_body_bytes=100)
    with pytest.raises(requests.RequestException):
        asked.get(send(LINES[:50], claimed=99), stream=False)
    assert asked.breaker.state is State.OPEN
    clock.advance(10)

    with pytest.raises(BodyTooLargeError):
        asked.get(send(LINES), stream=False)

    assert asked.breaker.state is State.CLOSED
