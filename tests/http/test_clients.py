"""Deadlines, bodies, guards and errors of the caller, the same for all clients."""

import gc
import gzip
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cb import (
    BreakerConfig,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    ConfigError,
    Policy,
    RateLimitedError,
    Registry,
    State,
)
from cb.http import BodyTooLargeError
from cb.resilience import RateLimit, retrying
from cb.testing import FakeClock, breaker_in
from tests.http.bodies import LINES, send
from tests.http.clients import CLIENTS, AsyncHttpx, Client, Httpx, Requests, counts
from tests.support.misbehaving import Server, answer, drip_body, send_half_chunked, stay_silent

pytestmark = pytest.mark.quiet


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=None, minimum_requests=1_000))


@pytest.fixture(params=CLIENTS, ids=lambda kind: kind.name)
def client(request: pytest.FixtureRequest) -> Client:
    made: Client = request.param()
    return made


def in_flight(registry: Registry) -> int:
    return registry.get("d").snapshot().in_flight


def test_streamed_body_counts_at_its_end(client: Client, server: Server, registry: Registry) -> None:
    server.act = send(LINES, chunked=True)
    with client.open(registry, "d"):
        response = client.stream(server.url)
        assert response.part() == LINES[:4096]
        assert (counts(registry), in_flight(registry)) in [((0, 0, 0), 1), ((1, 0, 0), 0)]  # received, if not yet read
        response.close()
        assert client.stream(server.url).read() == LINES
    assert (counts(registry), in_flight(registry)) == ((2, 0, 0), 0)


def test_stream_that_the_caller_closes_early_is_no_failure(client: Client, server: Server, registry: Registry) -> None:
    server.act = drip_body
    with client.open(registry, "d"):
        response = client.stream(server.url)
        assert (counts(registry), in_flight(registry)) == ((0, 0, 0), 1)
        response.close()
    assert (counts(registry), in_flight(registry)) == ((1, 0, 0), 0)


@pytest.mark.parametrize("act", [send(LINES, claimed=2 * len(LINES)), send_half_chunked])
def test_stream_that_breaks_off_is_a_failure(client: Client, server: Server, registry: Registry, act: Any) -> None:
    server.act = act
    with client.open(registry, "d"):
        response = client.stream(server.url)
        with pytest.raises(client.errors):
            response.read()
        response.close()
    assert (counts(registry), in_flight(registry)) == ((0, 1, 0), 0)
    last = registry.get("d").snapshot().last_failure
    assert last is not None
    assert last.message.startswith(f"GET {server.url}: the body ended early")


# aiohttp keeps a response until its session is closed.
@pytest.mark.parametrize("client", [Requests(), Httpx(), AsyncHttpx()], ids=lambda client: client.name)
def test_stream_that_is_collected_unread_counts_as_neither(client: Client, server: Server, registry: Registry) -> None:
    server.act = drip_body
    with client.open(registry, "d"):
        client.stream(server.url)
        gc.collect()
        registry.get("d").control.evaluate()
        assert (counts(registry), in_flight(registry)) == ((0, 0, 1), 0)


def test_time_of_the_caller_between_reads_does_not_count(client: Client, server: Server, registry: Registry) -> None:
    server.act = send(b"x" * 500_000, chunked=True)
    with client.open(registry, "d", timeout=0.3):
        response = client.stream(server.url)
        response.part()
        threading.Event().wait(0.4)
        response.read()
    assert counts(registry) == (1, 0, 0)


def test_time_of_the_caller_is_no_time_of_the_call(client: Client, server: Server) -> None:
    server.act = send(b"x" * 500_000, chunked=True)
    clock = FakeClock()
    registry = Registry(defaults=BreakerConfig(slow_call_duration=1), clock=clock)
    with client.open(registry, "d"):
        response = client.stream(server.url)
        response.part()
        clock.advance(60)
        response.close()
    assert (registry.get("d").snapshot().window.slow, counts(registry)) == (0, (1, 0, 0))


def uploaded(error: Exception | None, seconds: float) -> Iterator[bytes]:
    yield b"part"
    threading.Event().wait(seconds)
    if error is not None:
        raise error
    yield b"of it"


def answer_upload(server: Server) -> None:
    def act(connection: Any) -> None:
        while b"0\r\n\r\n" not in connection.recv(65536):
            pass
        answer(200, "{}")(connection)

    server.act = act


def test_time_of_the_caller_during_an_upload_does_not_count(client: Client, server: Server, registry: Registry) -> None:
    answer_upload(server)
    with client.open(registry, "d", timeout=0.3):
        assert client.post(server.url, uploaded(None, 0.4)) == 200
    assert counts(registry) == (1, 0, 0)


@pytest.mark.parametrize("error", [ValueError("no more"), FileNotFoundError(2, "no such file")])
def test_upload_whose_generator_raises_counts_as_neither(
    client: Client, server: Server, registry: Registry, error: Exception
) -> None:
    answer_upload(server)
    with client.open(registry, "d"), pytest.raises(Exception):  # noqa: B017 - aiohttp has one of its own
        client.post(server.url, uploaded(error, 0))
    assert (counts(registry), in_flight(registry)) == ((0, 0, 1), 0)


def test_wait_for_a_connection_of_the_pool_counts_as_neither(
    client: Client, server: Server, registry: Registry
) -> None:
    with client.open(registry, "d", timeout=0.3, pool=1):
        server.act = send(b"x" * 3_000_000)
        held, begin = client.stream(server.url), time.monotonic()
        with pytest.raises(client.errors, match="all connections of the pool are in use, and none became free within"):
            client.stream(server.url)
        assert 0.2 < time.monotonic() - begin < 0.7
        held.close()
    assert counts(registry) == (1, 0, 1)


def test_body_beyond_the_limit_after_decompression_counts_as_neither(
    client: Client, server: Server, registry: Registry
) -> None:
    server.act = send(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip")
    with client.open(registry, "d", max_body_bytes=1_000_000):
        response = client.stream(server.url)
        with pytest.raises(BodyTooLargeError) as caught:
            response.read()
        response.close()
    assert isinstance(caught.value, client.errors)
    assert str(caught.value) == (
        f"GET {server.url}: the body exceeds the limit of 1,000,000 bytes after decompression; raise max_body_bytes to "
        "receive it"
    )
    assert pickle.loads(pickle.dumps(caught.value)).limit == 1_000_000
    assert (counts(registry), in_flight(registry)) == ((0, 0, 1), 0)


@pytest.mark.parametrize("size", [len(LINES), 100])
def test_body_of_the_longest_length_is_received(client: Client, server: Server, registry: Registry, size: int) -> None:
    body = LINES[:size]
    for encoded, headers in ((body, ()), (gzip.compress(body), ("Content-Encoding: gzip",))):
        server.act = send(encoded, *headers)
        with client.open(registry, "d", max_body_bytes=size):
            assert client.stream(server.url).read() == body
    assert counts(registry) == (2, 0, 0)


def test_body_that_cannot_be_decompressed_is_a_failure(client: Client, server: Server, registry: Registry) -> None:
    server.act = send(b"no gzip", "Content-Encoding: gzip")
    with client.open(registry, "d"):
        response = client.stream(server.url)
        with pytest.raises(client.errors):
            response.read()
        response.close()
    assert counts(registry) == (0, 1, 0)


def test_retry_after_of_a_failure_is_a_lower_bound_of_the_open_time(client: Client, server: Server) -> None:
    registry = Registry(defaults=BreakerConfig(failure_threshold=1, timeout=1, timeout_max=600))
    server.act = answer(503, "{}", "Retry-After: 100")
    with client.open(registry, "d"):
        assert client.get(server.url) == 503
        with pytest.raises(CircuitOpenError) as caught:
            client.get(server.url)
    assert caught.value.retry_after is not None
    assert 95 < caught.value.retry_after <= 100
    last = registry.get("d").snapshot().last_failure
    assert last is not None
    assert (last.status, last.message) == (503, f"GET {server.url}: HTTP 503 Service Unavailable")


def test_statuses_that_are_failures_can_be_chosen(client: Client, server: Server, registry: Registry) -> None:
    with client.open(registry, "d", failure_statuses={404}):
        for status in (404, 503):
            server.act = answer(status, "{}")
            assert client.get(server.url) == status
    assert counts(registry) == (1, 1, 0)


def test_rejection_is_an_error_of_the_library_and_sends_nothing(client: Client, server: Server) -> None:
    with client.open(breaker_in(State.OPEN)), pytest.raises(CircuitOpenError) as caught:
        client.get(server.url)
    assert isinstance(caught.value, client.errors)
    assert server.requests == []
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (type(copied), copied.args[:2]) == (type(caught.value), caught.value.args[:2])


def test_bulkhead_is_free_again_after_the_body(client: Client, server: Server, registry: Registry) -> None:
    server.act = send(b"x" * 3_000_000)
    with client.open(registry, "d", limit=1):
        held = client.stream(server.url)
        with pytest.raises(BulkheadFullError) as caught:
            client.get(server.url)
        held.close()
        assert client.get(server.url) == 200
    assert isinstance(caught.value, client.errors)


def test_policy_of_rate_limit_and_bulkhead_admits_each_request(client: Client, server: Server) -> None:
    policy = Policy(CircuitBreaker("d"), rate_limit=RateLimit("1/hour", name="d"), bulkhead=1)
    with client.open(policy):
        assert client.get(server.url) == 200
        with pytest.raises(RateLimitedError) as caught:
            client.get(server.url)
    assert isinstance(caught.value, client.errors)
    assert policy.breaker.snapshot().totals.successes == 1


def test_policy_with_a_retry_needs_a_function(client: Client, server: Server) -> None:
    with client.open(Policy(CircuitBreaker("d"), retry=retrying(OSError))), pytest.raises(TypeError, match="retry"):
        client.get(server.url)


def test_each_origin_has_a_breaker_of_the_same_name_in_all_clients(
    client: Client, server: Server, registry: Registry
) -> None:
    port = server.url.rpartition(":")[2]
    with client.open(registry):
        client.get(server.url)
        client.get(f"http://LOCALHOST:{port}/path?query")
    assert sorted(breaker.name for breaker in registry) == [server.url, f"http://localhost:{port}"]


def test_name_may_be_a_function_of_the_request(client: Client, server: Server, registry: Registry) -> None:
    with client.open(registry, lambda request: request.headers["X-Tenant"]):
        client.get(server.url, headers={"X-Tenant": "one"})
    assert [breaker.name for breaker in registry] == ["one"]


@pytest.mark.parametrize(
    ("guard", "options"),
    [
        (CircuitBreaker("d"), {"name": "other"}),
        (CircuitBreaker("d"), {"limit": 3}),
        (Registry(), {"name": ""}),
        (Registry(), {"timeout": 0}),
        (Registry(), {"timeout": 86_401}),
        (Registry(), {"max_body_bytes": 0}),
        (Registry(), {"limit": 0}),
    ],
)
def test_argument_that_is_invalid_raises_config_error(client: Client, guard: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError), client.open(guard, **options):
        pass


def test_probe_has_no_more_time_than_its_breaker_gives_it(client: Client, server: Server) -> None:
    server.act = stay_silent
    with client.open(Bulkhead(breaker_in(State.HALF_OPEN, BreakerConfig(probe_timeout=0.2)), 1), timeout=5):
        begin = time.monotonic()
        with pytest.raises(client.errors, match=r"no response within 0.2 s"):
            client.get(server.url)
        assert time.monotonic() - begin < 1
