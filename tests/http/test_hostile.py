"""Malicious responses: each is a failure, costs little, and does not affect the next call."""

import gzip
import tracemalloc

import pytest
import requests

from cb import CircuitBreaker
from cb.http import ClientError, HTTPClient, InvalidResponse, ServiceUnavailable
from tests.http.conftest import counted
from tests.support.misbehaving import Act, Server, answer


def send(data: bytes) -> Act:
    return lambda connection: connection.sendall(data)


def zipped(status: int, body: bytes, *headers: bytes) -> Act:
    head = [b"HTTP/1.1 %d Word" % status, b"Content-Encoding: gzip", b"Content-Length: %d" % len(body), *headers]
    return send(b"\r\n".join(head) + b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"price": 1, "price": 2}', "not JSON: an object has a duplicate member"),
        ('{"price": 1e99999999999999999999}', "not JSON: "),
        ('{"price": -Infinity}', "not JSON: -Infinity is not a number"),
        ("[]", "not a JSON object"),
    ],
)
def test_ambiguous_json_is_an_invalid_response(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, *, body: str, reason: str
) -> None:
    server.act = answer(200, body)
    with pytest.raises(InvalidResponse) as raised:
        client.get_json("/a")
    assert raised.value.reason.startswith(reason)
    assert counted(breaker) == (0, 1, 0)


@pytest.mark.parametrize(
    "data", ['{"a": 1}'.encode("utf-16-le"), b'{"a": "\xed\xa0\x80"}'], ids=["utf-16", "surrogate"]
)
def test_response_that_is_not_utf_8_is_invalid(server: Server, client: HTTPClient, data: bytes) -> None:
    server.act = send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    with pytest.raises(InvalidResponse, match="not JSON"):
        client.get_json("/a")


@pytest.mark.parametrize(
    ("status", "reason"), [(300, "HTTP 300 Multiple Choices"), (302, "HTTP 302 Found"), (304, "HTTP 304 Not Modified")]
)
def test_json_with_a_status_other_than_2xx_is_invalid(
    server: Server, client: HTTPClient, status: int, reason: str
) -> None:
    server.act = answer(status, "{}" if status != 304 else "")
    with pytest.raises(InvalidResponse) as raised:
        client.get_json("/a")
    assert (raised.value.reason, raised.value.status) == (reason, status)


@pytest.mark.parametrize("location", [b"\xff\xfe", b"http://[", b"//"])
def test_redirect_to_an_invalid_url_is_an_invalid_response(
    server: Server, client: HTTPClient, breaker: CircuitBreaker, location: bytes
) -> None:
    server.act = send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n")
    with pytest.raises(InvalidResponse, match="HTTP 302 Found"):
        client.get_json("/a")
    assert counted(breaker) == (0, 1, 0)


def test_redirect_that_a_given_session_cannot_parse_is_a_failure(server: Server, breaker: CircuitBreaker) -> None:
    server.act = answer(302, "", "Location: http://[")
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(ServiceUnavailable, match="ValueError"):
            HTTPClient(server.url, 2, breaker, session).get_json("/a")
    assert counted(breaker) == (0, 1, 0)


@pytest.mark.parametrize("status", [200, 302, 404, 503])
def test_decompression_bomb_costs_little_memory(server: Server, client: HTTPClient, status: int) -> None:
    server.act = zipped(status, gzip.compress(bytes(100_000_000)), b"Location: /elsewhere")
    tracemalloc.start()
    try:
        with pytest.raises(ClientError):
            client.get_json("/a")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_cookie_of_one_caller_is_not_sent_for_the_next(server: Server, client: HTTPClient) -> None:
    server.act = answer(200, "{}", "Set-Cookie: session=alice; Path=/")
    for _ in range(2):
        client.get_json("/a")
    assert not [request for request in server.requests if "Cookie" in request]
