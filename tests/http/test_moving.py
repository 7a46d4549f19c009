"""Parts of `requests.get` that a guarded session leaves out, and the argument that brings back each."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from cb import ConfigError, Registry
from cb.http import guarded_session
from tests.http.conftest import Secure
from tests.support.misbehaving import Server, answer

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in (*PROXIES, *BUNDLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    return monkeypatch


@pytest.fixture(scope="module")
def forward() -> Iterator["Forward"]:
    proxy = Forward()
    yield proxy
    proxy.close()


class Forward(Server):
    """A proxy that connects to any port of this host, under any name, and forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.act = self._forward

    def _forward(self, connection: socket.socket) -> None:
        method, url, _ = self.requests[-1].split(" ", 2)
        if method != "CONNECT":
            answer(200, '"proxied"')(connection)
            return
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as behind:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            threading.Thread(target=pump, args=(behind, connection), daemon=True).start()
            pump(connection, behind)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


Sent = Callable[[requests.Session, str], requests.Response]
BOTH: list[Sent] = [
    lambda session, url: session.get(url),
    lambda session, url: session.send(requests.Request("GET", url).prepare()),
]


@pytest.mark.parametrize("send", BOTH)
def test_redirect_is_followed_with_one_argument(server: Server, send: Sent) -> None:
    server.act = answer(302, "", "Location: /next")
    with guarded_session(Registry(), timeout=5) as session:
        assert send(session, server.url).status_code == 302

    def once(connection: socket.socket) -> None:
        server.act = answer(200, "{}")
        answer(302, "", "Location: /next")(connection)

    server.act = once
    with guarded_session(Registry(), timeout=5, follow_redirects=True) as session:
        assert [each.status_code for each in send(session, server.url).history] == [302]
        server.act = once
        assert session.get(server.url, allow_redirects=False).status_code == 302


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("send", BOTH)
def test_proxy_of_the_environment_is_used_with_one_argument(
    server: Server, forward: Forward, environment: pytest.MonkeyPatch, name: str, send: Sent
) -> None:
    environment.setenv(name, forward.url)
    with guarded_session(Registry(), timeout=5) as session:
        assert send(session, server.url).text == "{}"
    with guarded_session(Registry(), timeout=5, trust_env=True) as session:
        assert send(session, server.url).text == '"proxied"'
        environment.setenv("NO_PROXY", "127.0.0.1,example.com")
        assert send(session, server.url).text == "{}"


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("send", BOTH)
def test_certificates_of_the_environment_are_used_with_one_argument(
    serve: Callable[[], Secure], pem: str, environment: pytest.MonkeyPatch, name: str, send: Sent
) -> None:
    server = serve()
    environment.setenv(name, pem)
    with guarded_session(Registry(), timeout=5) as session, pytest.raises(requests.exceptions.SSLError):
        send(session, server.url)
    with guarded_session(Registry(), timeout=5, trust_env=True) as session:
        assert send(session, server.url).status_code == 200


def test_tls_through_a_proxy_of_the_environment_is_verified_with_its_certificates(
    serve: Callable[[], Secure], forward: Forward, pem: str, environment: pytest.MonkeyPatch
) -> None:
    server, before = serve(), len(forward.requests)
    environment.setenv("HTTPS_PROXY", forward.url)
    environment.setenv("REQUESTS_CA_BUNDLE", pem)
    registry = Registry()
    with guarded_session(registry, timeout=5, trust_env=True) as session:
        assert session.get(server.url).status_code == 200
    assert [each.split()[0] for each in forward.requests[before:]] == ["CONNECT"]
    assert [breaker.name for breaker in registry] == [server.url]


def test_password_of_netrc_is_sent_with_one_argument(
    server: Server, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    environment.setenv("NETRC", str(tmp_path / "netrc"))
    for trusted in (False, True):
        with guarded_session(Registry(), timeout=5, trust_env=trusted) as session:
            session.get(server.url)
    assert ["Authorization" in request for request in server.requests] == [False, True]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("send", BOTH)
def test_proxy_that_is_given_takes_precedence_over_the_environment(
    server: Server, forward: Forward, environment: pytest.MonkeyPatch, *, trusted: bool, send: Sent
) -> None:
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    environment.setenv("ALL_PROXY", "http://127.0.0.1:1")
    options = {"timeout": 5, "trust_env": trusted, "proxies": {"http": forward.url}}
    with guarded_session(Registry(), **options) as session:  # type: ignore[arg-type]  # options of several types
        assert send(session, server.url).text == '"proxied"'


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("send", BOTH)
def test_certificates_that_are_given_take_precedence_over_the_environment(
    serve: Callable[[], Secure], pem: str, environment: pytest.MonkeyPatch, *, trusted: bool, send: Sent
) -> None:
    environment.setenv("REQUESTS_CA_BUNDLE", "/none.pem")
    url = serve().url
    with guarded_session(Registry(), timeout=5, trust_env=trusted, verify=Path(pem)) as session:
        assert send(session, url).status_code == 200


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_any_certificate_is_accepted_where_that_is_asked_for(
    serve: Callable[[], Secure], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REQUESTS_CA_BUNDLE", "/none.pem")
    with guarded_session(Registry(), timeout=5, trust_env=True, verify=False) as session:
        assert session.get(serve().url).status_code == 200


def test_environment_is_no_setting_of_a_later_call(
    server: Server, forward: Forward, environment: pytest.MonkeyPatch
) -> None:
    mine: dict[str, str] = {}
    with guarded_session(Registry(), timeout=5, trust_env=True) as session:
        environment.setenv("HTTP_PROXY", forward.url)
        assert session.get(server.url, proxies=mine).text == '"proxied"'
        environment.delenv("HTTP_PROXY")
        assert session.get(server.url, proxies=mine).text == "{}"
        assert session.proxies == mine == {}


@pytest.mark.parametrize(
    "options",
    [
        {"proxies": "http://me:secret@proxy:3128"},
        {"proxies": {"https": 3128}},
        {"verify": None},
        {"verify": ""},
        {"verify": b"/ca.pem"},
        {"max_body_bytes": 0},
        {"max_body_bytes": "10 MB"},
        {"max_body_bytes": 1.5},
        {"max_body_bytes": True},
    ],
)
def test_session_with_an_invalid_option_is_a_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} must ") as raised:
        guarded_session(Registry(), **options)
    assert "secret" not in repr(raised.value.rule)
