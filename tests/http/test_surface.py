"""The public names of `cb.http`: guards of every kind, `close`, `repr` and durations."""

import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

import cb.http
from cb import Bulkhead, CircuitBreaker, CircuitOpenError, ConfigError, Registry, State
from cb.http import (
    CircuitBreakerAdapter,
    CircuitOpenConnectionError,
    DeadlineAdapter,
    HTTPClient,
    guarded_session,
    within,
)
from cb.testing import breaker_in
from tests.support.misbehaving import Server, answer, drip_body


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("name", cb.http.__all__)
def test_name_of_the_package_can_be_imported_from_it(name: str) -> None:
    assert hasattr(cb.http, name)


def test_session_of_one_breaker_sends_all_requests_through_it(server: Server) -> None:
    server.act = answer(200, "{}")
    other = Server()
    other.act = answer(500, "{}")
    breaker = CircuitBreaker("both")
    with guarded_session(breaker) as session:
        session.get(server.url, timeout=5)
        session.get(other.url, timeout=5)
    other.close()
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (1, 1)


def test_open_breaker_of_an_adapter_rejects_before_anything_is_sent(server: Server, session: requests.Session) -> None:
    session.mount("http://", CircuitBreakerAdapter(breaker_in(State.OPEN)))
    with pytest.raises(CircuitOpenConnectionError):
        session.get(server.url, timeout=5)
    assert server.requests == []


def test_bulkhead_of_an_adapter_is_free_again_after_the_body(server: Server, session: requests.Session) -> None:
    server.act = answer(200, "body")
    bulkhead = Bulkhead(CircuitBreaker("d"), 1)
    session.mount("http://", CircuitBreakerAdapter(bulkhead))
    response = session.get(server.url, timeout=5, stream=True)
    with pytest.raises(requests.ConnectionError, match="bulkhead"):
        session.get(server.url, timeout=5)
    response.close()
    assert session.get(server.url, timeout=5).text == "body"


@pytest.mark.parametrize("options", [{"name": "d"}, {"limit": 1}])
def test_name_and_limit_need_a_registry(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be given with a registry alone"):
        CircuitBreakerAdapter(CircuitBreaker("d"), **options)


def test_guard_of_another_class_is_accepted(server: Server) -> None:
    breaker = CircuitBreaker("d")

    class Own:
        name = breaker.name
        begin = breaker.begin
        guard = breaker.guard
        call = breaker.call
        __call__ = breaker.__call__

    server.act = answer(200, "{}")
    assert HTTPClient(server.url, 2, Own()).get_json("/a") == {}
    assert breaker.snapshot().totals.successes == 1


def test_timeouts_may_be_timedelta(server: Server, session: requests.Session) -> None:
    server.act = drip_body
    breaker = CircuitBreaker("d")
    with HTTPClient(server.url, timedelta(seconds=0.2), breaker) as client:
        with pytest.raises(cb.http.ServiceUnavailable):
            client.get_json("/a")
        with pytest.raises(cb.http.ServiceUnavailable):
            client.get_json("/a", timeout=timedelta(milliseconds=100))
    with guarded_session(breaker, timeout=timedelta(seconds=0.2)) as guarded, pytest.raises(requests.RequestException):
        guarded.get(server.url, timeout=5)
    session.mount("http://", DeadlineAdapter())
    with pytest.raises(requests.RequestException), within(timedelta(seconds=0.2)):
        session.get(server.url, timeout=5)


def test_client_that_is_closed_connects_again_when_it_is_used(server: Server) -> None:
    server.act = answer(200, "{}")
    with HTTPClient(server.url, 2, CircuitBreaker("d")) as client:
        client.get_json("/a")
    assert client.get_json("/a") == {}
    assert server.connections == 2


def test_client_leaves_a_session_of_the_caller_open(server: Server) -> None:
    class Closable(requests.Session):
        closed = False

        def close(self) -> None:
            self.closed = True

    session = Closable()
    with HTTPClient(server.url, 2, CircuitBreaker("d"), session):
        pass
    assert not session.closed


def test_repr_has_url_and_guard_and_no_password() -> None:
    breaker, registry = CircuitBreaker("stock"), Registry()
    client = HTTPClient("http://me:secret@stock.internal:80/v1", 2, breaker)
    assert repr(client) == f"<HTTPClient 'http://stock.internal:80/v1', timeout 2 s, {breaker!r}>"
    shown = "<DeadlineAdapter, keeps 10 connections for each host, 1 connection attempt>"
    assert repr(DeadlineAdapter()) == repr(pickle.loads(pickle.dumps(DeadlineAdapter()))) == shown
    assert repr(CircuitBreakerAdapter(registry)) == f"<CircuitBreakerAdapter of each origin in {registry!r}>"
    assert repr(CircuitBreakerAdapter(registry, "d")) == f"<CircuitBreakerAdapter of 'd' in {registry!r}>"
    assert repr(CircuitBreakerAdapter(breaker)) == f"<CircuitBreakerAdapter of {breaker!r}>"


def test_rejection_of_an_adapter_is_caught_as_either_error(server: Server, session: requests.Session) -> None:
    session.mount("http://", CircuitBreakerAdapter(breaker_in(State.OPEN)))
    for kind in (CircuitOpenError, requests.ConnectionError):
        with pytest.raises(kind):
            session.get(server.url, timeout=5)
