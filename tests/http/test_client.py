"""The JSON client, against a misbehaving server on a real socket."""

import json
import socket
import time
from decimal import Decimal
from typing import Any

import pytest
import requests
from requests_mock import Mocker

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, ConfigError, State
from cb.http import ClientError, ClientErrorResponse, HTTPClient, InvalidResponse, ServiceUnavailable
from cb.testing import FakeClock, breaker_in
from tests.support.misbehaving import (
    Act,
    Server,
    answer,
    hang_up,
    send_bad_gzip,
    send_chunks,
    send_half,
    send_half_chunked,
    send_no_http,
    stay_silent,
)


@pytest.fixture
def client(server: Server, breaker: CircuitBreaker, session: requests.Session) -> HTTPClient:
    return HTTPClient(server.url, 0.3, breaker, session)


def totals(breaker: CircuitBreaker) -> tuple[int, int]:
    counted = breaker.snapshot().totals
    return counted.successes, counted.failures


def test_json_response_has_exact_decimals_and_is_a_success(
    server: Server, client: HTTPClient, breaker: CircuitBreaker
) -> None:
    server.act = answer(200, '{"price": 150.10}')

    assert client.get_json("/price") == {"price": Decimal("150.10")}
    assert totals(breaker) == (1, 0)


def test_chunked_response_is_returned_whole(server: Server, client: HTTPClient) -> None:
    server.act = send_chunks

    assert client.get_json("/chunks") == {"a": 1}


def test_post_sends_body_and_current_headers(server: Server, breaker: CircuitBreaker) -> None:
    ids = iter(["first", "second"])
    client = HTTPClient(server.url + "/", 0.3, breaker, headers=lambda: {"X-Request-ID": next(ids)})

    client.post_json("/orders", {"quantity": 10})
    client.post_json("/orders", {"quantity": 10})

    assert "X-Request-ID: first" in server.requests[0] and "X-Request-ID: second" in server.requests[1]
    assert server.requests[0].startswith("POST /orders ") and "Content-Type: application/json" in server.requests[0]
    assert json.loads(server.requests[0].partition("\r\n\r\n")[2]) == {"quantity": 10}


def test_connection_is_reused_after_valid_and_invalid_responses(server: Server, client: HTTPClient) -> None:
    acts = (answer(200, "{}"), send_chunks, answer(404, "{}"), answer(503, "{}"), answer(200, "no"), answer(200, "{}"))
    for act in acts:
        server.act = act
        try:
            client.get_json("/anything")
        except ClientError:
            continue

    assert (len(server.requests), server.connections) == (6, 1)


@pytest.mark.parametrize(("status", "body", "known"), [(404, '{"code": "x"}', {"code": "x"}), (409, "<html>", {})])
def test_other_4xx_raises_and_counts_as_success(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, *, status: int, body: str, known: dict[str, str]
) -> None:
    server.act = answer(status, body)

    with pytest.raises(ClientErrorResponse) as caught:
        client.get_json("/nothing")

    assert (caught.value.status, caught.value.body) == (status, known)
    assert totals(breaker) == (1, 0)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 507, 511, 520, 526, 529, 530, 599, 999])
def test_failure_status_is_unavailable_and_counts_as_failure(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, status: int
) -> None:
    server.act = answer(status, '{"detail": "sorry"}')

    with pytest.raises(ServiceUnavailable) as caught:
        client.get_json("/anything")

    assert (caught.value.sent, caught.value.status) == (True, status)
    assert totals(breaker) == (0, 1)


@pytest.mark.parametrize("status", [501, 505, 510])
def test_status_of_an_unsupported_request_is_no_failure(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, status: int
) -> None:
    server.act = answer(status, '{"detail": "no"}')
    for call in (client.get_json, lambda path: client.get_json_unguarded(path, 2)):
        with pytest.raises(ClientErrorResponse) as caught:
            call("/anything")
        assert (caught.value.status, caught.value.body) == (status, {"detail": "no"})
    assert totals(breaker) == (1, 0)


@pytest.mark.parametrize(
    "act",
    [stay_silent, hang_up, send_half, send_half_chunked, send_no_http, send_bad_gzip],
    ids=lambda act: act.__name__,
)
def test_response_that_is_cut_off_is_unavailable_and_may_have_been_sent(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, act: Act
) -> None:
    server.act = act

    with pytest.raises(ServiceUnavailable) as caught:
        client.post_json("/orders", {})

    assert caught.value.sent
    assert totals(breaker) == (0, 1)
    assert len(server.requests) == 1, "a POST must not be repeated"


def test_refused_connection_is_unavailable_and_not_sent(breaker: CircuitBreaker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = HTTPClient(f"http://127.0.0.1:{port}", 0.3, breaker)

    with pytest.raises(ServiceUnavailable) as caught:
        client.post_json("/orders", {})

    assert not caught.value.sent
    assert totals(breaker) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[1]",
        "null",
        '{"a": NaN}',
        '{"a": 1',
        "[" * 30_000,
        '{"a": ' + "9" * 5_000 + "}",
    ],
    ids=["empty", "text", "array", "null", "nan", "cut", "nested", "digits"],
)
def test_response_that_is_no_object_is_invalid_and_counts_as_failure(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, body: str
) -> None:
    server.act = answer(200, body)

    with pytest.raises(InvalidResponse):
        client.get_json("/anything")

    assert totals(breaker) == (0, 1)


@pytest.mark.parametrize(("limit", "size"), [(1 << 20, (1 << 20) + 9), (100, 101)])
def test_response_beyond_the_limit_is_invalid_and_counts_as_neither(
    server: Server, breaker: CircuitBreaker, limit: int, size: int
) -> None:
    client = HTTPClient(server.url, 5, breaker, max_body_bytes=limit)
    server.act = answer(200, json.dumps({"a": "x" * (size - 9)}))
    for _ in range(4):
        with pytest.raises(InvalidResponse) as caught:
            client.get_json("/anything")
    shown = f"a body of {size:,} bytes exceeds the limit of {limit:,} bytes; raise max_body_bytes to receive it"
    assert str(caught.value) == f"GET {server.url}: {shown}"
    assert (breaker.state, totals(breaker)) == (State.CLOSED, (0, 0))
    client = HTTPClient(server.url, 5, breaker, max_body_bytes=size)
    assert client.get_json("/anything") == {"a": "x" * (size - 9)}


def test_longer_response_than_the_limit_of_a_probe_closes_the_circuit(server: Server) -> None:
    clock = FakeClock()
    config = BreakerConfig(max_requests=1, success_threshold=1)
    breaker = breaker_in(State.OPEN, config, clock=clock)
    client = HTTPClient(server.url, 5, breaker, max_body_bytes=100)
    clock.advance(config.timeout)
    server.act = answer(200, json.dumps({"a": "x" * 200}))
    with pytest.raises(InvalidResponse):
        client.get_json("/anything")
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("limit", [0, -1, None, True, "1 MB", 1.5])
def test_client_with_an_invalid_limit_is_a_config_error(breaker: CircuitBreaker, limit: Any) -> None:
    with pytest.raises(ConfigError, match=r"^max_body_bytes must be a whole number of bytes above 0"):
        HTTPClient("http://127.0.0.1:1", 5, breaker, max_body_bytes=limit)


def test_redirect_is_an_invalid_response(server: Server, client: HTTPClient, breaker: CircuitBreaker) -> None:
    server.act = answer(302, "", f"Location: {server.url}/elsewhere")

    with pytest.raises(InvalidResponse):
        client.get_json("/anything")

    assert len(server.requests) == 1
    assert totals(breaker) == (0, 1)


def test_open_circuit_rejects_and_sends_nothing(server: Server, client: HTTPClient, breaker: CircuitBreaker) -> None:
    server.act = answer(503, "{}")
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            client.get_json("/anything")

    with pytest.raises(CircuitOpenError):
        client.get_json("/anything")

    assert len(server.requests) == 3


def test_retry_after_of_the_service_keeps_the_circuit_open_longer(server: Server, client: HTTPClient) -> None:
    server.act = answer(503, "{}", "Retry-After: 120")
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            client.get_json("/anything")

    with pytest.raises(CircuitOpenError) as caught:
        client.get_json("/anything")

    assert caught.value.retry_after is not None and 115 < caught.value.retry_after <= 120


@pytest.mark.parametrize(
    "path", ["/a/../b", "/..", "/.", "a", "/a?b=c", "/a#b", "/a b", "/%2e%2e", "//host/a", "/a/", "/a\n"]
)
def test_path_that_could_lead_elsewhere_is_not_called(server: Server, client: HTTPClient, path: str) -> None:
    with pytest.raises(ValueError, match="not a plain absolute path"):
        client.get_json(path)

    assert not server.requests


def test_proxy_of_the_environment_is_not_used(
    server: Server, breaker: CircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert HTTPClient(server.url, 0.3, breaker).get_json("/a") == {}


def test_foreign_service_of_the_readme_is_called_by_its_public_address(breaker: CircuitBreaker) -> None:
    with Mocker() as foreign:
        foreign.get("http://api.example.com/api/data", text='{"value": 1}')

        assert HTTPClient("http://api.example.com", 5, breaker).get_json("/api/data") == {"value": 1}

    assert breaker.state is State.CLOSED


def test_probe_of_a_silent_service_ends_at_the_probe_timeout(server: Server) -> None:
    clock = FakeClock()
    config = BreakerConfig(max_requests=1, success_threshold=1, probe_timeout=0.2)
    client = HTTPClient(server.url, 30, breaker_in(State.OPEN, config, clock=clock))
    clock.advance(config.timeout)
    server.act = stay_silent
    begin = time.monotonic()

    with pytest.raises(ServiceUnavailable, match=r"no response within 0\.2 s"):
        client.get_json("/price")

    assert time.monotonic() - begin < 5
