"""Errors of the caller in an HTTP request: they count as neither success nor failure."""

import io
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from cb import BreakerConfig, CircuitBreaker, ConfigError, Registry, State
from cb.http import CircuitBreakerAdapter, DeadlineAdapter, HTTPClient, ServiceUnavailable
from cb.testing import FakeClock
from tests.http.conftest import counted
from tests.support.misbehaving import Server, reset, send_no_http


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=BreakerConfig(failure_threshold=2))


@pytest.fixture
def mounted(registry: Registry, session: requests.Session) -> requests.Session:
    for scheme in ("http://", "https://"):
        session.mount(scheme, CircuitBreakerAdapter(registry, "d", timeout=5))
    return session


def raising(error: Exception) -> Iterator[bytes]:
    yield b"abc"
    raise error


class Broken(io.BytesIO):
    """A file that raises when it is read."""

    def __init__(self, error: Exception) -> None:
        super().__init__(b"abcdef")
        self.error = error

    def read(self, *_: Any) -> bytes:
        raise self.error


class Pieces:
    """An iterable that is not a generator."""

    def __iter__(self) -> Iterator[bytes]:
        return raising(OSError("my disk"))


OWN = {
    "generator": lambda: raising(KeyError("mine")),
    "generator whose own source breaks": lambda: raising(ConnectionResetError("another server")),
    "generator whose own source hangs": lambda: raising(TimeoutError("another server")),
    "iterable": Pieces,
    "file": lambda: Broken(OSError("my disk")),
    "file that is closed": lambda: Broken(ValueError("I/O operation on closed file")),
    "pieces of a wrong type": lambda: iter([7]),
}


@pytest.mark.parametrize("body", OWN.values(), ids=OWN)
def test_upload_that_cannot_be_read_counts_as_neither(
    server: Server, registry: Registry, mounted: requests.Session, body: Callable[[], Any]
) -> None:
    for _ in range(3):
        with pytest.raises(Exception):  # noqa: B017 - the caller's exception, or requests' wrapper of it
            mounted.post(server.url, data=body())
    assert counted(registry.get("d")) == (0, 0, 3)
    assert mounted.get(server.url).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        lambda: iter([b"abc", b"def"]),
        lambda: io.BytesIO(b"abcdef"),
        lambda: io.StringIO("abcdef"),
        lambda: bytearray(b"abcdef"),
        lambda: "abcdef",
        lambda: {"a": "b"},
    ],
)
def test_upload_is_sent_and_restored_on_the_request(
    server: Server, registry: Registry, mounted: requests.Session, body: Callable[[], Any]
) -> None:
    request = requests.Request("POST", server.url, data=body()).prepare()
    before = request.body
    response = mounted.send(request)
    assert (response.status_code, response.request.body) == (200, before)
    assert request.body is before
    assert counted(registry.get("d")) == (1, 0, 0)


class SlowFile:
    """A file that is slow to read."""

    def __init__(self) -> None:
        self._left = [b"abc", b"def"]

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[bytes]:
        return iter([])

    def read(self, _: int = -1) -> bytes:
        threading.Event().wait(0.3)
        return self._left.pop() if self._left else b""


def slow_pieces() -> Iterator[bytes]:
    for _ in range(2):
        threading.Event().wait(0.3)
        yield b"abc"


@pytest.mark.parametrize("body", [SlowFile, slow_pieces])
def test_time_of_the_caller_during_an_upload_does_not_count(
    server: Server, session: requests.Session, body: Callable[[], Any]
) -> None:
    registry = Registry(defaults=BreakerConfig(slow_call_duration=0.4))
    session.mount("http://", CircuitBreakerAdapter(registry, "d", timeout=0.4))
    assert session.post(server.url, data=body()).status_code == 200
    totals = registry.get("d").snapshot().totals
    assert (totals.successes, totals.failures, totals.slow) == (1, 0, 0)


def test_probe_whose_upload_is_made_slowly_closes_the_circuit(server: Server, session: requests.Session) -> None:
    clock = FakeClock()
    config = BreakerConfig(failure_threshold=1, timeout=1, max_requests=1, probe_timeout=5, timeout_jitter=0)
    breaker = (registry := Registry(defaults=config, clock=clock)).get("d")
    session.mount("http://", CircuitBreakerAdapter(registry, "d"))
    with pytest.raises(KeyError):
        breaker.call({}.__getitem__, "no")
    clock.advance(1)

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            clock.advance(3)
            breaker.control.evaluate()
            yield b"abc"

    assert session.post(server.url, data=pieces()).status_code == 200

    assert breaker.state is State.CLOSED


def test_pool_timeout_counts_as_neither(server: Server, breaker: CircuitBreaker) -> None:
    session = requests.Session()
    session.mount("http://", DeadlineAdapter(pool_maxsize=1, pool_block=True))
    client = HTTPClient(server.url, 0.2, breaker, session)
    with session.get(server.url, stream=True):
        for _ in range(3):
            with pytest.raises(ServiceUnavailable) as caught:
                client.get_json("/a")
            assert not caught.value.sent
    assert counted(breaker) == (0, 0, 3)
    assert client.get_json("/a") == {}


def test_upload_that_the_server_aborts_is_a_failure(
    server: Server, registry: Registry, mounted: requests.Session
) -> None:
    server.act = reset
    with pytest.raises(requests.ConnectionError):
        mounted.post(server.url, data=iter([b"abc"] * 3))
    assert counted(registry.get("d")) == (0, 1, 0)


def test_response_that_is_not_http_is_a_failure(server: Server, registry: Registry, mounted: requests.Session) -> None:
    server.act = send_no_http
    with pytest.raises(requests.ConnectionError):
        mounted.get(server.url)
    assert counted(registry.get("d")) == (0, 1, 0)


def test_unusable_certificate_file_counts_as_neither(
    registry: Registry, mounted: requests.Session, tmp_path: Path, server: Server
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    url = server.url.replace("http:", "https:")
    wrong: tuple[dict[str, Any], ...] = (
        {"verify": str(bad)},
        {"cert": str(bad)},
        {"verify": "/none.pem"},
        {"cert": "/none.pem"},
        {"cert": str(tmp_path)},
    )
    for options in wrong:
        with pytest.raises(OSError, match=r"certificate|PEM|X509|[Dd]irectory"):
            mounted.get(url, **options)
    assert counted(registry.get("d")) == (0, 0, 5)


def test_failure_counts_while_the_caller_handles_a_file_error(
    server: Server, registry: Registry, mounted: requests.Session
) -> None:
    server.act = reset
    try:
        raise PermissionError
    except PermissionError:
        with pytest.raises(requests.ConnectionError):
            mounted.get(server.url)
    assert counted(registry.get("d")) == (0, 1, 0)


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ({"X": "a\nb"}, {}),
        ({"X": "\u2603"}, {}),
        ({"X": object()}, {}),
        ({}, {"timeout": "soon"}),
        ({}, {"timeout": -1}),
        ({}, {"timeout": (1, 2, 3)}),
    ],
)
def test_argument_that_cannot_be_sent_counts_as_neither(
    server: Server, registry: Registry, mounted: requests.Session, headers: dict[str, Any], options: dict[str, Any]
) -> None:
    request = requests.Request("GET", server.url).prepare()
    request.headers.update(headers)
    with pytest.raises((ValueError, TypeError, AttributeError)):
        mounted.send(request, **options)
    assert counted(registry.get("d")) == (0, 0, 1)


def test_auth_that_raises_counts_as_neither(server: Server, breaker: CircuitBreaker) -> None:
    def auth(_: Any) -> Any:
        raise KeyError("no token")

    session = requests.Session()
    session.mount("http://", DeadlineAdapter())
    session.auth = auth
    client = HTTPClient(server.url, 2, breaker, session)
    for _ in range(4):
        with pytest.raises(KeyError):
            client.get_json("/quotes", fallback=None)
    assert counted(breaker) == (0, 0, 4)
    assert server.requests == []


def test_hook_that_raises_counts_as_neither(server: Server, breaker: CircuitBreaker) -> None:
    def hook(*_: Any, **__: Any) -> None:
        raise LookupError("mine")

    session = requests.Session()
    session.hooks["response"].append(hook)
    client = HTTPClient(server.url, 2, breaker, session)
    with pytest.raises(LookupError):
        client.get_json("/quotes")
    assert counted(breaker) == (0, 0, 1)
    assert breaker.snapshot().in_flight == 0


def test_missing_certificate_bundle_counts_as_neither(breaker: CircuitBreaker) -> None:
    session = requests.Session()
    session.trust_env = False  # a bundle of the environment would override it
    session.verify = "/none.pem"
    with pytest.raises(OSError, match="TLS CA certificate bundle"):
        HTTPClient("https://127.0.0.1:9", 2, breaker, session).get_json("/quotes")
    assert counted(breaker) == (0, 0, 1)


def test_unreachable_service_is_a_failure(breaker: CircuitBreaker) -> None:
    with pytest.raises(ServiceUnavailable):
        HTTPClient("http://127.0.0.1:9", 2, breaker).get_json("/quotes")
    assert counted(breaker) == (0, 1, 0)


def test_check_that_is_a_coroutine_function_is_a_type_error(
    server: Server, client: HTTPClient, breaker: CircuitBreaker
) -> None:
    async def check(answer: Any) -> Any:
        return answer

    for late in (check, partial(answered, check)):
        with pytest.raises(TypeError, match=r"later|after the call"):
            client.get_json("/quotes", check=late)
    assert counted(breaker) == (0, 0, 1)
    assert breaker.state is State.CLOSED and len(server.requests) == 1


def answered(check: Callable[[Any], Any], answer: Any) -> Any:
    return check(answer)


@pytest.mark.parametrize("name", [None, b"orders", 7, [], ("a",), "", object()])
def test_invalid_breaker_name_is_a_config_error_and_creates_no_breaker(
    server: Server, registry: Registry, session: requests.Session, name: Any
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, lambda _: name, limit=2))
    for _ in range(2):
        with pytest.raises(ConfigError, match="name must be"):
            session.get(server.url)
    assert list(registry.snapshots()) == server.requests == []


@pytest.mark.parametrize("name", [b"orders", 7, [], "", False])
def test_empty_name_is_a_config_error_before_the_first_request(registry: Registry, name: Any) -> None:
    with pytest.raises(ConfigError, match="name must be"):
        CircuitBreakerAdapter(registry, name)


def test_exception_of_a_name_function_reaches_the_caller(
    server: Server, registry: Registry, session: requests.Session
) -> None:
    session.mount("http://", CircuitBreakerAdapter(registry, lambda request: request.headers["X-Tenant"]))
    with pytest.raises(KeyError):
        session.get(server.url)
    assert list(registry.snapshots()) == server.requests == []
