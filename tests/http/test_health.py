"""Calls past the breaker, for health checks."""

import pytest

from cb import State
from cb.http import ClientError, ClientErrorResponse, HTTPClient, InvalidResponse, ServiceUnavailable
from cb.testing import breaker_in
from tests.support.misbehaving import Act, Server, answer, hang_up, stay_silent


def test_unguarded_call_bypasses_an_open_circuit_and_is_not_counted(server: Server) -> None:
    server.act = answer(200, '{"status": "UP"}')
    breaker = breaker_in(State.OPEN)
    before = breaker.snapshot()
    client = HTTPClient(server.url, 0.3, breaker)
    assert (
        client.get_json_unguarded("/health/ready", 1)
        == client.get_json_unguarded("/health/ready", 1)
        == {"status": "UP"}
    )
    assert server.connections == 2, "a new one each time"
    assert breaker.snapshot() == before


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (stay_silent, ServiceUnavailable),
        (hang_up, ServiceUnavailable),
        (answer(503, "{}"), ServiceUnavailable),
        (answer(404, "{}"), ClientErrorResponse),
        (answer(200, "[]"), InvalidResponse),
    ],
)
def test_unguarded_call_raises_the_errors_of_a_call(server: Server, act: Act, error: type[ClientError]) -> None:
    server.act = act
    client = HTTPClient(server.url, 5, breaker_in(State.CLOSED))
    with pytest.raises(error):
        client.get_json_unguarded("/health/ready", 0.2)


def test_unguarded_call_needs_a_plain_path(server: Server) -> None:
    client = HTTPClient(server.url, 5, breaker_in(State.CLOSED))
    with pytest.raises(ValueError, match="not a plain absolute path"):
        client.get_json_unguarded("/health/../admin", 1)
