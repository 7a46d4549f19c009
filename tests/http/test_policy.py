"""A policy in the place of a breaker: the client, the adapter and the session."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Policy, RateLimitedError
from cb.http import (
    CircuitBreakerAdapter,
    ClientErrorResponse,
    HTTPClient,
    RateLimitedConnectionError,
    ServiceUnavailable,
    guarded_session,
)
from cb.resilience import RateLimit, StaleCache, retrying
from tests.support.misbehaving import Server, answer, reset

NEVER_OPENS = BreakerConfig(failure_threshold=None, minimum_requests=1_000_000)


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("d", NEVER_OPENS)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_client_with_retries_counts_each_attempt(server: Server, breaker: CircuitBreaker) -> None:
    server.act = answer(503, "{}")
    policy = Policy(breaker, retry=retrying(ServiceUnavailable, attempts=3, sleep=lambda _: None))
    with pytest.raises(ServiceUnavailable):
        HTTPClient(server.url, 2, policy).get_json("/a")
    assert breaker.snapshot().totals.failures == len(server.requests) == 3


def test_rejection_of_a_client_with_retries_is_not_retried(server: Server) -> None:
    server.act = answer(503, "{}")
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1))
    policy = Policy(breaker, retry=retrying(ServiceUnavailable, attempts=3, sleep=lambda _: None))
    with pytest.raises(CircuitOpenError):
        HTTPClient(server.url, 2, policy).get_json("/a")
    assert len(server.requests) == 1
    assert breaker.snapshot().totals.rejected == 1


def test_client_with_a_cache_returns_the_last_value_of_a_path(server: Server, breaker: CircuitBreaker) -> None:
    cache: StaleCache[Any] = StaleCache("c", "memory://", max_stale_age=60, errors=ServiceUnavailable)
    client = HTTPClient(server.url, 2, Policy(breaker, cache=cache))
    server.act = answer(200, '{"price": "1"}')
    assert client.get_json("/a") == {"price": "1"}
    server.act = answer(503, "{}")
    assert client.get_json("/a", headers={"X-Request-ID": "other"}) == {"price": "1"}
    with pytest.raises(ServiceUnavailable):
        client.get_json("/b")


def test_client_error_response_is_not_retried_cached_or_replaced(
    server: Server, breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    server.act = answer(404, '{"code": "unknown"}')
    cache: StaleCache[Any] = StaleCache("c", "memory://", max_stale_age=60, errors=Exception)
    retry = retrying(Exception, attempts=3, sleep=lambda _: None)
    client = HTTPClient(server.url, 2, Policy(breaker, retry=retry, cache=cache, fallback={}))
    with pytest.raises(ClientErrorResponse) as raised:
        client.get_json("/a")
    assert raised.value.body == {"code": "unknown"}
    assert len(server.requests) == breaker.snapshot().totals.successes == 1
    assert caplog.records == []


def test_fallback_of_a_policy_replaces_a_failure_of_a_client(server: Server, breaker: CircuitBreaker) -> None:
    server.act = reset
    client = HTTPClient(server.url, 2, Policy(breaker, fallback={"price": None}))
    assert client.get_json("/a") == {"price": None}
    assert breaker.snapshot().totals.failures == 1


def test_rate_limit_of_a_policy_rejects_before_anything_is_sent(
    server: Server, breaker: CircuitBreaker, session: requests.Session
) -> None:
    server.act = answer(200, "{}")
    policy = Policy(breaker, rate_limit=RateLimit("2/hour", name="d"), bulkhead=1)
    session.mount("http://", CircuitBreakerAdapter(policy))
    assert session.get(server.url, timeout=5).json() == HTTPClient(server.url, 2, policy).get_json("/a") == {}
    with pytest.raises(RateLimitedConnectionError) as caught:
        session.get(server.url, timeout=5)
    with pytest.raises(RateLimitedError):
        HTTPClient(server.url, 2, policy).get_json("/a")
    assert (caught.value.name, caught.value.retry_after > 0) == ("d", True)
    arrived = pickle.loads(pickle.dumps(caught.value))
    assert (type(arrived), arrived.name, str(arrived)) == (RateLimitedConnectionError, "d", str(caught.value))
    assert arrived.request.url == f"{server.url}/"
    assert breaker.snapshot().totals.successes == len(server.requests) == 2


def test_session_rejects_a_policy_that_needs_a_function(server: Server, breaker: CircuitBreaker) -> None:
    with guarded_session(Policy(breaker, fallback=None)) as session, pytest.raises(TypeError):
        session.get(server.url, timeout=5)
    assert server.requests == []
