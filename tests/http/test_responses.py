"""Results of a client's calls: the result of the check, a fallback, or an error."""

import pickle
from decimal import Decimal
from typing import Any

import pytest
from marshmallow import EXCLUDE, Schema, fields

from cb import CircuitBreaker, CircuitError, CircuitOpenError, ConfigError, State
from cb.http import ClientError, ClientErrorResponse, HTTPClient, InvalidResponse, Json, ServiceUnavailable
from cb.testing import breaker_in
from tests.http.conftest import counted
from tests.support.misbehaving import Act, Server, answer, hang_up

PRICE = answer(200, '{"symbol": "AAPL", "price": 150.10}')


class Quote(Schema):
    symbol = fields.String(required=True)
    price = fields.Decimal(required=True)


def symbol(found: Json) -> str:
    if found["symbol"] != "AAPL":
        raise ValueError("answered for another symbol")
    return str(found["symbol"])


def test_result_of_the_check_is_returned(server: Server, client: HTTPClient, breaker: CircuitBreaker) -> None:
    server.act = PRICE
    assert client.get_json("/a", check=symbol) == "AAPL"
    assert client.post_json("/a", {}, check=Quote().load) == {"symbol": "AAPL", "price": Decimal("150.1")}
    assert counted(breaker) == (2, 0, 0)


@pytest.mark.parametrize(
    ("body", "check", "reason"),
    [
        ('{"symbol": "MSFT"}', symbol, "ValueError: answered for another symbol"),
        ("{}", symbol, "KeyError: 'symbol'"),
        ('{"symbol": "AAPL"}', Quote(unknown=EXCLUDE).load, "ValidationError: {'price': "),
        ('{"price": "much"}', lambda found: Decimal(found["price"]), "InvalidOperation: "),
    ],
    ids=["ValueError", "KeyError", "ValidationError", "InvalidOperation"],
)
def test_exception_of_a_check_is_an_invalid_response_and_a_failure(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, *, body: str, check: Any, reason: str
) -> None:
    server.act = answer(201, body)
    with pytest.raises(InvalidResponse) as raised:
        client.post_json("/a", {}, check=check)
    assert raised.value.reason.startswith(reason)
    assert str(raised.value) == f"POST {server.url}: {raised.value.reason}"
    assert (raised.value.status, type(raised.value.__cause__).__name__) == (201, reason.partition(":")[0])
    assert counted(breaker) == (0, 1, 0)


def test_invalid_response_raised_by_a_check_is_unchanged(server: Server, client: HTTPClient) -> None:
    def check(found: Json) -> None:
        raise own

    own = InvalidResponse("stale", 203)
    server.act = PRICE
    with pytest.raises(InvalidResponse) as raised:
        client.get_json("/a", check=check)
    assert raised.value is own


def test_responses_that_fail_their_check_open_the_circuit(
    server: Server, client: HTTPClient, breaker: CircuitBreaker
) -> None:
    server.act = answer(200, "{}")
    for _ in range(3):
        with pytest.raises(InvalidResponse):
            client.get_json("/a", check=symbol)
    assert breaker.state is State.OPEN


def test_client_error_response_is_neither_checked_nor_replaced(
    server: Server, client: HTTPClient, breaker: CircuitBreaker
) -> None:
    server.act = answer(404, '{"code": "unknown"}')
    with pytest.raises(ClientErrorResponse) as raised:
        client.get_json("/a", check=lambda _: pytest.fail("a refusal was checked"), fallback="instead")
    assert raised.value.body == {"code": "unknown"}
    assert counted(breaker) == (1, 0, 0)


@pytest.mark.parametrize(
    ("act", "kind"), [(hang_up, ServiceUnavailable), (answer(503, "{}"), ServiceUnavailable), (PRICE, InvalidResponse)]
)
def test_failure_returns_the_fallback_and_counts(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, *, act: Act, kind: type[Exception]
) -> None:
    def never(found: Json) -> str:
        raise LookupError

    server.act = act
    assert client.get_json("/a", check=never, fallback=None) is None
    failed: ClientError | CircuitError = client.get_json("/a", check=never, fallback=lambda error: error)  # type: ignore[assignment]  # `never` returns nothing
    assert type(failed) is kind
    assert counted(breaker) == (0, 2, 0)


def test_rejection_returns_the_fallback(server: Server) -> None:
    client = HTTPClient(server.url, 2, breaker_in(State.OPEN))
    assert client.post_json("/a", {}, fallback=lambda error: {"refused": type(error)}) == {"refused": CircuitOpenError}
    assert client.get_json("/a", fallback={}) == {}
    assert not server.requests


def test_headers_of_a_call_override_those_of_the_client(server: Server, breaker: CircuitBreaker) -> None:
    client = HTTPClient(server.url, 2, breaker, headers=lambda: {"X-Request-ID": "1", "traceparent": "2"})
    client.post_json("/a", {}, headers={"x-request-id": "3", "Idempotency-Key": "4", "content-type": "text/plain"})
    sent = server.requests[0].partition("\r\n\r\n")[0].splitlines()
    assert {"x-request-id: 3", "traceparent: 2", "Idempotency-Key: 4"} < set(sent)
    assert [line for line in sent if line.lower().startswith("content-type")] == ["Content-Type: application/json"]


@pytest.mark.parametrize(
    "headers",
    [{"X-A": "a\r\nX-B: b"}, {"X-A": "a\n"}, {"X-A": " a"}, {"X-A": "€"}, {"X-A": "\xa0a"}, {"X-A": 1}, {"X A": "a"}],
    ids=repr,
)
def test_header_that_cannot_be_sent_is_a_value_error_and_not_counted(
    server: Server, breaker: CircuitBreaker, headers: Any
) -> None:
    client = HTTPClient(server.url, 2, breaker)
    with pytest.raises(ValueError, match=r"not a header that can be sent: 'X.A'$"):
        client.get_json("/a", headers=headers, fallback="instead")
    with pytest.raises(ValueError, match="not a header"):
        HTTPClient(server.url, 2, breaker, headers=lambda: headers).get_json("/a")
    assert (server.requests, counted(breaker)) == ([], (0, 0, 0))


def test_latin_and_empty_headers_are_sent(server: Server, client: HTTPClient) -> None:
    client.get_json("/a", headers={"X-A": "", "X-B": "a\tb c"})
    assert "X-A: \r\nX-B: a\tb c\r\n" in server.requests[0]


def test_body_with_nan_is_not_sent(server: Server, client: HTTPClient) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.post_json("/a", {"price": float("nan")})
    assert not server.requests


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "127.0.0.1:8082",
        "http://",
        "http://h:99999",
        "http://h:x",
        "http://h/?q",
        "http://h/#f",
        "http://a b",
    ],
)
def test_invalid_base_url_is_a_config_error(breaker: CircuitBreaker, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^base_url must be http:// or https://"):
        HTTPClient(url, 2, breaker)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), None, "5", True])
def test_invalid_timeout_is_a_config_error(server: Server, breaker: CircuitBreaker, timeout: Any) -> None:
    with pytest.raises(ConfigError, match=r"^timeout must be a number of seconds above 0"):
        HTTPClient(server.url, timeout, breaker)


@pytest.mark.parametrize(
    "error", [ClientErrorResponse(404, {"code": "x"}), InvalidResponse("no", 201), ServiceUnavailable("x", sent=False)]
)
def test_errors_can_be_pickled(error: ClientError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
