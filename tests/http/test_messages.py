"""Texts of errors: method, host and reason, for every kind of failure, on real sockets."""

import copy
import pickle
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import urllib3

from cb import BreakerConfig, CircuitBreaker, Registry
from cb.http import CircuitBreakerAdapter, DeadlineAdapter, HTTPClient, ServiceUnavailable, guarded_session, within
from tests.http.conftest import Secure
from tests.support.misbehaving import (
    Act,
    Server,
    answer,
    drip_body,
    hang_up,
    reset,
    send_bad_gzip,
    send_half,
    send_half_chunked,
    send_no_http,
    stay_silent,
)

PATH = "/orders?token=secret"
LIMIT = 0.15
NEVER_OPENS = BreakerConfig(failure_threshold=None, minimum_requests=1_000_000)


def sending(data: bytes) -> Act:
    return lambda connection: connection.sendall(data)


def stall(connection: socket.socket) -> None:
    """Send half of a body, and wait until the client hangs up."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    stay_silent(connection)


#: act, class of the error, its reason, and its class in urllib3
KINDS: dict[str, tuple[Act, str, str, str]] = {
    "silent": (stay_silent, "ReadTimeout", "no response within 0.15 s", "ReadTimeoutError"),
    "slow body": (drip_body, "ConnectionError", "the body did not end within 0.15 s", "ReadTimeoutError"),
    "hang up": (hang_up, "ConnectionError", "the connection was closed before a response", "ProtocolError"),
    "reset": (reset, "ConnectionError", "the connection was reset before a response", "ProtocolError"),
    "half": (send_half, "ChunkedEncodingError", "the body ended early, after 6 bytes of 100", "ProtocolError"),
    "half a chunk": (send_half_chunked, "ChunkedEncodingError", "the body ended early", "ProtocolError"),
    "bad chunk": (
        sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "ChunkedEncodingError",
        "the response is not valid HTTP (the length of a chunk is no number)",
        "ProtocolError",
    ),
    "no HTTP": (send_no_http, "ConnectionError", "the response is not HTTP", "ProtocolError"),
    "many headers": (
        sending(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
        "ConnectionError",
        "the response is not valid HTTP (got more than 100 headers)",
        "ProtocolError",
    ),
    "two lengths": (
        sending(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\n{}"),
        "InvalidHeader",
        "the response is not valid HTTP (Content-Length contained multiple unmatching values (2, 7))",
        "InvalidHeader",
    ),
    "bad gzip": (
        send_bad_gzip,
        "ContentDecodingError",
        "the body cannot be decompressed (Error -3 while decompressing data: incorrect header check)",
        "DecodeError",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def registry() -> Registry:
    return Registry(defaults=NEVER_OPENS)


@pytest.fixture
def session(registry: Registry) -> Iterator[requests.Session]:
    with guarded_session(registry, "d", timeout=LIMIT) as session:
        yield session


def raised(call: Callable[..., object], *args: Any, **options: Any) -> Any:
    with pytest.raises(requests.RequestException) as caught:
        call(*args, **options)
    return caught.value


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def with_password(url: str) -> str:
    return url.replace("//", "//me:secret@") + PATH


@pytest.mark.parametrize("kind", KINDS)
def test_error_names_method_host_and_reason_and_keeps_its_class(
    server: Server, session: requests.Session, registry: Registry, kind: str
) -> None:
    server.act, name, reason, inner = KINDS[kind]

    error = raised(session.get, with_password(server.url))

    assert type(error) is getattr(requests.exceptions, name)
    assert str(error) == f"GET {server.url}: {reason}"
    assert (error.request.method, error.response) == ("GET", None)
    assert isinstance(error.args[0], urllib3.exceptions.HTTPError)
    assert type(error.__cause__).__name__ == inner and type(error.__cause__).__module__ == "urllib3.exceptions"
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(other), str(other), other.request.url) == (type(error), str(error), error.request.url)
        assert isinstance(other.args[0], type(error.__cause__))
    failure = registry.get("d").snapshot().last_failure
    assert failure is not None and failure.message == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_error_of_an_adapter_in_a_session_of_the_caller_has_the_text(
    server: Server, registry: Registry, kind: str
) -> None:
    server.act, name, reason, _ = KINDS[kind]
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", CircuitBreakerAdapter(registry, "d", timeout=LIMIT))
        error = raised(session.post, with_password(server.url), data="a")
    assert (type(error).__name__, str(error)) == (name, f"POST {server.url}: {reason}")


@pytest.mark.parametrize("kind", KINDS)
def test_error_of_a_deadline_without_a_breaker_has_the_text(server: Server, kind: str) -> None:
    server.act, name, reason, _ = KINDS[kind]
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", DeadlineAdapter())
        with within(LIMIT):
            error = raised(session.get, with_password(server.url))
    assert (type(error).__name__, str(error)) == (name, f"GET {server.url}: {reason}")


def test_body_without_a_deadline_that_is_slow_names_the_limit_of_each_wait(server: Server) -> None:
    server.act = stall
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", DeadlineAdapter())
        error = raised(session.get, server.url, timeout=(3, 0.05))
    assert (type(error).__name__, str(error)) == (
        "ConnectionError",
        f"GET {server.url}: the body did not end within 0.05 s",
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "chunk" not in kind])
def test_error_of_a_client_has_the_text(server: Server, kind: str) -> None:
    server.act, _, reason, _ = KINDS[kind]
    client = HTTPClient(with_password(server.url).partition("?")[0], LIMIT, CircuitBreaker("d"))
    with pytest.raises(ServiceUnavailable) as caught:
        client.get_json("/orders")
    assert (caught.value.reason, str(caught.value)) == (reason, f"GET {server.url}: {reason}")
    sent = pickle.loads(pickle.dumps(caught.value))
    assert (sent.reason, str(sent), sent.status) == (reason, str(caught.value), None)


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (503, "HTTP 503 Service Unavailable"),
        (429, "HTTP 429 Too Many Requests"),
        (522, "HTTP 522 Connection Timed Out"),
        (599, "HTTP 599"),
    ],
)
def test_failing_status_is_the_last_failure_in_words(
    server: Server, session: requests.Session, registry: Registry, status: int, shown: str
) -> None:
    server.act = answer(status, "{}")
    session.get(with_password(server.url))
    client = HTTPClient(server.url, 5, breaker := registry.get("client"))
    with pytest.raises(ServiceUnavailable, match=f"{re.escape(shown)}$"):
        client.get_json("/orders")
    for each in (registry.get("d"), breaker):
        failure = each.snapshot().last_failure
        assert failure is not None
        assert (failure.message, failure.status) == (f"GET {server.url}: {shown}", status)


def test_error_names_the_limit_that_was_exceeded(server: Server, registry: Registry) -> None:
    server.act = stay_silent
    with guarded_session(registry, timeout=5) as session:
        for timeout in (0.05, (3, 0.05), urllib3.Timeout(connect=3, read=0.05), urllib3.Timeout(0.05)):
            error = raised(session.get, server.url, timeout=timeout)
            assert str(error) == f"GET {server.url}: no response within 0.05 s"


def test_refused_connection_and_unknown_name_are_named(session: requests.Session) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    error = raised(session.get, with_password(url))
    assert str(error) == f"GET {url}: cannot connect (Connection refused)"
    assert isinstance(error.args[0].reason, urllib3.exceptions.NewConnectionError)  # as other code examines it
    error = raised(session.get, with_password("http://a.invalid:81"))
    assert str(error).startswith("GET http://a.invalid:81: the name of the host cannot be resolved (")


def test_repeated_connection_attempts_are_counted(registry: Registry) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", CircuitBreakerAdapter(registry, max_retries=2))
        assert str(raised(session.get, url)) == f"GET {url}: cannot connect (Connection refused) (3 attempts)"


def test_connection_that_is_not_accepted_is_named(session: requests.Session) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        error = raised(session.get, url)
    assert (type(error), str(error)) == (
        requests.exceptions.ConnectTimeout,
        f"GET {url}: no connection within 0.15 s",
    )


def test_certificates_that_are_not_trusted_are_named(
    serve: Callable[[], Secure], session: requests.Session, pem: str
) -> None:
    url = serve().url
    error = raised(session.get, url, timeout=5)
    assert (type(error), str(error)) == (
        requests.exceptions.SSLError,
        f"GET {url}: the certificate is not trusted: self-signed certificate",
    )
    other = url.replace("127.0.0.1", "localhost")
    error = raised(session.get, other, verify=pem)
    # The reason is OpenSSL's, with urllib3 1.26 that of urllib3.
    reason = str(error).removeprefix(f"GET {other}: the certificate is not trusted: ")
    assert reason.startswith(("Hostname mismatch", "hostname 'localhost' doesn't match"))


def test_failing_proxy_is_named_without_its_password(server: Server, session: requests.Session) -> None:
    down = f"127.0.0.1:{unused_port()}"
    error = raised(session.get, "http://a.invalid", proxies={"http": f"http://me:secret@{down}"})
    assert str(error) == (
        f"GET http://a.invalid: the proxy http://{down} cannot be used: cannot connect (Connection refused)"
    )
    server.act = sending(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    error = raised(session.get, "https://a.invalid", proxies={"https": server.url})
    assert str(error) == (
        f"GET https://a.invalid: the proxy {server.url} refused the connection (407 Proxy Authentication Required)"
    )
    server.act = stay_silent
    error = raised(session.get, "http://a.invalid", proxies={"http": server.url})
    assert str(error) == f"GET http://a.invalid: no response within 0.15 s (through the proxy {server.url})"


def test_connections_that_are_all_in_use_are_named(server: Server) -> None:
    server.act = answer(200, "{}")
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", DeadlineAdapter(pool_maxsize=1, pool_block=True))
        with session.get(server.url, stream=True), within(0.05):
            error = raised(session.get, server.url)
    shown = f"GET {server.url}: all connections of the pool are in use, and none became free within 0.05 s"
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == shown


def test_endless_redirects_are_named(server: Server, session: requests.Session) -> None:
    server.act = answer(302, "", "Location: /next")
    session.max_redirects = 3
    error = raised(session.get, with_password(server.url), allow_redirects=True, timeout=5)
    assert (type(error), str(error)) == (
        requests.exceptions.TooManyRedirects,
        f"GET {server.url}: more than 3 redirects",
    )
    assert error.response.status_code == 302


@pytest.mark.parametrize(
    "url",
    ["ftp://me:secret@a.invalid/?token=secret", "http:///?token=secret", "a.invalid?token=secret", "//me:secret@"],
)
def test_url_that_cannot_be_requested_is_shown_without_secrets(session: requests.Session, url: str) -> None:
    error = raised(session.get, url)
    assert "secret" not in str(error)


def test_raw_body_raises_the_error_of_urllib3_with_the_text(server: Server, session: requests.Session) -> None:
    server.act = send_half
    response = session.get(with_password(server.url), stream=True)
    with pytest.raises(urllib3.exceptions.ProtocolError) as caught:
        response.raw.read()
    assert str(caught.value) == f"GET {server.url}: the body ended early, after 6 bytes of 100"


def test_upload_that_raises_keeps_the_text_of_the_caller(server: Server, session: requests.Session) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"
        raise OSError("my disk")

    assert "my disk" in str(raised(session.post, server.url, data=pieces()))


@pytest.mark.parametrize(
    ("variable", "shown"),
    [("HTTP_PROXY", "A proxy of the environment was not used"), ("REQUESTS_CA_BUNDLE", "REQUESTS_CA_BUNDLE was not")],
)
def test_failure_notes_the_environment_that_was_not_used(
    serve: Callable[[], Secure], monkeypatch: pytest.MonkeyPatch, variable: str, shown: str
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    url = serve().url if variable == "REQUESTS_CA_BUNDLE" else f"http://127.0.0.1:{unused_port()}"
    with guarded_session(Registry(), timeout=5) as session:
        error = raised(session.get, url)
    (note,) = error.__notes__
    assert note.startswith(shown) and "trust_env=True" in note
    assert note in "".join(traceback.format_exception(error))
