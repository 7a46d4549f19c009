"""The guarded session: no unrequested redirects, no environment, a breaker before each request."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cb import BreakerConfig, CircuitOpenError, ConfigError, Registry
from cb.http import guarded_session
from tests.support.misbehaving import Server, answer, drip_body, hang_up, send_much, stay_silent

METHODS = ("GET", "OPTIONS", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """Yield a server that redirects to the other."""
    here, there = Server(), Server()
    here.act = answer(302, "", f"Location: {there.url}/there")
    yield here, there
    here.close()
    there.close()


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=2))


@pytest.fixture
def session(registry: Registry) -> Iterator[requests.Session]:
    with guarded_session(registry, timeout=0.3) as session:
        yield session


def successes(registry: Registry) -> dict[str, int]:
    return {breaker.name: breaker.snapshot().totals.successes for breaker in registry}


@pytest.mark.parametrize("method", METHODS)
def test_redirect_is_returned_and_not_followed(
    servers: tuple[Server, Server], session: requests.Session, method: str
) -> None:
    here, there = servers
    if method == "HEAD":
        here.act = lambda connection: connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n")
    for call in (getattr(session, method.lower()), lambda url: session.request(method, url)):
        response = call(here.url)
        assert (response.status_code, response.is_redirect, response.history) == (302, True, [])
    assert (len(here.requests), there.requests) == (2, [])


def test_redirect_of_a_prepared_request_is_not_followed(
    servers: tuple[Server, Server], session: requests.Session
) -> None:
    here, there = servers
    assert session.send(requests.Request("GET", here.url).prepare()).status_code == 302
    assert not there.requests


@pytest.mark.parametrize("method", METHODS)
def test_requested_redirect_passes_the_breaker_of_each_host(
    servers: tuple[Server, Server], session: requests.Session, registry: Registry, method: str
) -> None:
    here, there = servers
    if method == "HEAD":
        here.act = lambda connection: connection.sendall(f"HTTP/1.1 302 F\r\nLocation: {there.url}\r\n\r\n".encode())
        there.act = lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    response = getattr(session, method.lower())(here.url, allow_redirects=True)
    assert (response.status_code, len(response.history)) == (200, 1)
    assert successes(registry) == {here.url: 1, there.url: 1}


def test_redirect_to_a_host_with_an_open_circuit_is_rejected(
    servers: tuple[Server, Server], session: requests.Session, registry: Registry
) -> None:
    here, there = servers
    registry.get(there.url).control.force_open(reason="test")
    with pytest.raises(CircuitOpenError) as raised:
        session.get(here.url, allow_redirects=True)
    assert raised.value.name == there.url
    assert (len(here.requests), there.requests) == (1, [])


def test_redirect_with_an_invalid_location_is_returned(
    servers: tuple[Server, Server], session: requests.Session
) -> None:
    here, _ = servers
    here.act = answer(302, "", "Location: http://[")
    assert session.get(here.url).headers["Location"] == "http://["


def test_body_of_a_redirect_is_left_to_the_caller(
    servers: tuple[Server, Server], session: requests.Session, registry: Registry
) -> None:
    here, _ = servers
    here.act = lambda connection: connection.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 4\r\n\r\nbody"
    )
    with session.get(here.url, stream=True) as response:
        assert registry.get(here.url).snapshot().in_flight == 1
        assert response.content == b"body"


@pytest.mark.parametrize("act", [stay_silent, drip_body])
def test_request_without_a_timeout_ends_at_the_deadline(
    servers: tuple[Server, Server], session: requests.Session, registry: Registry, act: Any
) -> None:
    here, _ = servers
    here.act = act
    with pytest.raises(requests.RequestException):
        session.get(here.url)
    assert 0.25 < registry.get(here.url).snapshot().latency.sum < 2


def test_failed_request_is_not_retried(servers: tuple[Server, Server], session: requests.Session) -> None:
    here, _ = servers
    here.act = hang_up
    with pytest.raises(requests.ConnectionError):
        session.get(here.url)
    assert len(here.requests) == 1


def test_environment_supplies_no_proxy_and_no_password(
    servers: tuple[Server, Server], session: requests.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, _ = servers
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    session.get(here.url)
    assert "Authorization" not in here.requests[0]


def test_options_are_passed_to_the_adapter(servers: tuple[Server, Server], registry: Registry) -> None:
    here, _ = servers
    with guarded_session(registry, "both", max_body_bytes=10, failure_statuses={404}, timeout=5) as session:
        here.act = answer(404, "{}")
        session.get(here.url)
        here.act = send_much
        with pytest.raises(requests.RequestException):
            session.get(here.url)
    totals = registry.get("both").snapshot().totals
    assert (totals.failures, totals.neutral) == (1, 1)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_both_schemes_are_guarded(session: requests.Session, registry: Registry, scheme: str) -> None:
    registry.get(f"{scheme}://127.0.0.1:1").control.force_open(reason="test")
    with pytest.raises(CircuitOpenError):
        session.get(f"{scheme}://127.0.0.1:1/")


@pytest.mark.parametrize("timeout", [None, 0, -1, float("inf"), "5"])
def test_session_with_an_invalid_timeout_is_a_config_error(registry: Registry, timeout: Any) -> None:
    make: Callable[..., requests.Session] = guarded_session
    with pytest.raises(ConfigError, match=r"^timeout must be a number of seconds above 0"):
        make(registry, timeout=timeout)
