"""Bulkheads of the client and the adapter, against a real server."""

import threading
from collections.abc import Callable

import pytest
import requests

from cb import Bulkhead, BulkheadFullError, ConfigError, Registry
from cb.http import CircuitBreakerAdapter, HTTPClient
from tests.support.misbehaving import Server


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_client_with_a_bulkhead_sends_nothing_when_it_is_full(server: Server, registry: Registry) -> None:
    bulkhead = Bulkhead(registry.get("d"), 1)
    client = HTTPClient(server.url, 5, bulkhead)
    assert client.get_json("/free") == {}

    with bulkhead, pytest.raises(BulkheadFullError):
        client.get_json("/full")

    assert len(server.requests) == 1


@pytest.mark.parametrize("end", [lambda response: response.content, lambda response: response.close()])
def test_adapter_holds_a_permit_until_the_body_is_read_or_closed(
    server: Server, registry: Registry, session: requests.Session, end: Callable[[requests.Response], object]
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, limit=1))
    response = session.get(server.url, timeout=5, stream=True)

    with pytest.raises(BulkheadFullError) as caught:
        session.get(server.url, timeout=5)
    end(response)

    assert isinstance(caught.value, requests.exceptions.ConnectionError)
    assert (caught.value.name, caught.value.limit) == (server.url, 1)
    assert session.get(server.url, timeout=5).status_code == 200
    assert registry.get(server.url).snapshot().totals.successes == 2


def test_each_origin_has_a_bulkhead_of_its_own(server: Server, registry: Registry, session: requests.Session) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, limit=1))
    other = Server()
    try:
        with session.get(server.url, timeout=5, stream=True):
            assert session.get(other.url, timeout=5).status_code == 200
    finally:
        other.close()


def test_adapter_waits_for_a_permit(server: Server, registry: Registry, session: requests.Session) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, limit=1, wait=10))
    response = session.get(server.url, timeout=5, stream=True)
    timer = threading.Timer(0.05, response.close)
    timer.start()

    assert session.get(server.url, timeout=5).status_code == 200

    timer.join()


def test_invalid_limit_is_a_config_error(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="limit"):
        CircuitBreakerAdapter(registry, limit=0)
