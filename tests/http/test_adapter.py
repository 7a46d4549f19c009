"""The adapter in a session of requests, against a misbehaving server."""

import logging
import pickle
import socket
from contextlib import suppress
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from cb import BreakerConfig, CircuitOpenError, ConfigError, Registry
from cb.http import CircuitBreakerAdapter, CircuitOpenConnectionError, origin
from cb.ledger.layout import MAX_RECORDS
from tests.support.misbehaving import Act, Server, answer, reset, send_half


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=2))


def totals(registry: Registry, name: str) -> tuple[int, int]:
    counted = registry.get(name).snapshot().totals
    return counted.successes, counted.failures


def test_adapter_returns_a_failing_response_and_counts_it(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry))
    server.act = answer(503, '{"detail": "sorry"}')

    response = session.get(server.url, timeout=1)

    assert (response.status_code, response.json()) == (503, {"detail": "sorry"})
    assert totals(registry, server.url) == (0, 1)


def test_rejection_by_an_adapter_is_an_error_of_cb_and_of_requests(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry))
    server.act = answer(500, "{}")
    for _ in range(2):
        session.get(server.url, timeout=1)

    with pytest.raises(CircuitOpenError) as caught:
        session.get(server.url, timeout=1)

    assert isinstance(caught.value, requests.exceptions.ConnectionError)
    assert caught.value.name == server.url and caught.value.retry_after is not None
    assert str(caught.value).startswith("circuit 'http://127.0.0.1:")
    assert len(server.requests) == 2


def test_body_that_is_cut_off_is_a_failure_of_the_adapter(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, "half"))
    server.act = send_half

    with pytest.raises(requests.exceptions.RequestException):
        session.get(server.url, timeout=1)

    assert totals(registry, "half") == (0, 1)


def test_adapter_leaves_a_streamed_body_to_the_caller(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, lambda request: f"{request.method} service"))
    server.act = answer(200, "streamed")

    with session.get(server.url, timeout=1, stream=True) as response:
        assert list(response.iter_content(None)) == [b"streamed"]

    assert totals(registry, "GET service") == (1, 0)


def test_adapter_guards_each_host_of_a_redirect_for_itself(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    other = Server()
    session.mount("http://", CircuitBreakerAdapter(registry))
    server.act = answer(302, "", f"Location: {other.url}/there")

    assert session.get(server.url, timeout=1).ok
    other.close()

    assert [breaker.name for breaker in registry] == sorted([server.url, other.url])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://Example.com/a?b", "https://example.com:443"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("http://[::1]/a", "http://[::1]:80"),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, name: str) -> None:
    assert origin(requests.Request("GET", url).prepare()) == name


def test_rejection_by_an_adapter_can_be_pickled() -> None:
    request = requests.Request("GET", "http://127.0.0.1/").prepare()

    sent = pickle.loads(pickle.dumps(CircuitOpenConnectionError("d", 1.5, request)))

    assert (sent.name, sent.retry_after, sent.request.url) == ("d", 1.5, "http://127.0.0.1/")


@pytest.mark.parametrize("retries", [-1, 11, 1.5, True, "3", Retry(3)])
def test_retries_that_do_more_than_connect_are_refused(registry: Registry, retries: Any) -> None:
    with pytest.raises(ConfigError, match="max_retries must be a whole number"):
        CircuitBreakerAdapter(registry, max_retries=retries)  # urllib3 would sleep for a Retry-After of a day


def test_repeated_connection_attempts_count_as_one_failure(
    registry: Registry, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, "d", max_retries=2))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening
        with caplog.at_level(logging.WARNING, "urllib3"), pytest.raises(requests.ConnectionError):
            session.get(f"http://127.0.0.1:{unused.getsockname()[1]}/")

    assert len([record for record in caplog.records if record.msg.startswith("Retrying")]) == 2
    assert totals(registry, "d") == (0, 1)


@pytest.mark.parametrize("act", [send_half, reset, answer(503, "{}", "Retry-After: 0")])
def test_adapter_with_connection_retries_sends_no_request_twice(
    server: Server, registry: Registry, session: requests.Session, act: Act
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, "d", max_retries=2))
    server.act = act

    with suppress(requests.RequestException):
        session.get(server.url)

    assert len(server.requests) == 1
    assert totals(registry, "d") == (0, 1)


def test_origins_too_long_for_a_name_have_breakers_of_their_own(registry: Registry) -> None:
    host = ".".join(["a" * 60] * 4)
    names = {origin(requests.Request("GET", f"http://{host}:{port}/").prepare()) for port in (1, 2)}

    assert len({registry.get(name) for name in names}) == 2


def test_request_whose_breaker_name_does_not_fit_is_sent(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, lambda request: f"{request.url}?\n{'x' * 1000}", limit=1))

    for _ in range(2):
        assert session.get(server.url).ok

    (breaker,) = registry
    assert breaker.snapshot().totals.successes == 2


def test_origins_beyond_what_the_ledger_holds_are_guarded_each_for_itself(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    for number in range(MAX_RECORDS):
        registry.ledger.core.record(f"http://10.0.{number >> 8}.{number & 255}:80", 1)
    session.mount("http://", CircuitBreakerAdapter(registry, limit=1))

    assert session.get(server.url).ok
    assert totals(registry, server.url) == (1, 0)
    assert "no room for" in (registry.ledger.degraded or "")


class Counting(HTTPAdapter):
    """An adapter of another package, with a first argument of its own."""

    def __init__(self, sent: list[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.sent = [] if sent is None else sent

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.sent.append(request.url or "")
        return super().send(request, *args, **options)


def test_adapter_is_combined_with_another_in_either_order(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    class Before(CircuitBreakerAdapter, Counting):
        pass

    class After(Counting, CircuitBreakerAdapter):
        pass

    for adapter in (Before(registry, "d", pool_maxsize=3), After(guard=registry, name="d", pool_maxsize=3)):
        session.mount("http://", adapter)
        assert session.get(server.url).status_code == 200
        assert adapter.sent == [f"{server.url}/"]
        assert adapter.poolmanager.connection_pool_kw["maxsize"] == 3
    assert totals(registry, "d") == (2, 0)
