"""TLS: what one request of a session trusts, and who it says it is, is no matter of any other."""

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from socket import socket
from typing import Any

import pytest
import requests

from cb.http import DeadlineAdapter, within
from tests.misbehaving import Server, drip_body, drip_headers


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with a key and the certificate of 127.0.0.1 that it has signed itself."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509", "-days", "2")
    name = ("-subj", "/CN=us", "-addext", "subjectAltName=IP:127.0.0.1")
    key = path.with_suffix(".key")
    subprocess.run(["openssl", "req", *kind, *name, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return str(path)


class _Secure(Server):
    def __init__(self, pem: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._context.load_verify_locations(pem)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        #: the certificates that clients have shown, {} for one who has shown none
        self.shown: list[Any] = []
        super().__init__()
        self.url = self.url.replace("http:", "https:")

    def _serve(self, connection: socket) -> None:
        with suppress(OSError):
            secure = self._context.wrap_socket(connection, server_side=True)
            self.shown.append(secure.getpeercert() or {})
            super()._serve(secure)


@pytest.fixture
def serve(pem: str) -> Iterator[Callable[[], _Secure]]:
    with ExitStack() as stack:

        def serve() -> _Secure:
            server = _Secure(pem)
            stack.callback(server.close)
            return server

        yield serve


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", DeadlineAdapter())
        yield session


Serve = Callable[[], _Secure]


def test_certificate_that_nobody_has_signed_is_refused(serve: Serve, session: requests.Session) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        session.get(serve().url)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_request_without_verification_leaves_that_of_others_alone(serve: Serve, session: requests.Session) -> None:
    server = serve()

    assert session.get(server.url, verify=False).status_code == 200
    for other in (server, serve()):
        with pytest.raises(requests.exceptions.SSLError):
            session.get(other.url)


def test_authority_of_one_request_is_not_trusted_by_others(serve: Serve, session: requests.Session, pem: str) -> None:
    server = serve()

    assert session.get(server.url, verify=pem).status_code == 200
    for other in (server, serve()):
        with pytest.raises(requests.exceptions.SSLError):
            session.get(other.url)


def test_client_certificate_is_shown_to_the_host_it_is_meant_for_only(
    serve: Serve, session: requests.Session, pem: str
) -> None:
    friend, stranger = serve(), serve()

    session.get(friend.url, verify=pem, cert=pem)
    session.get(stranger.url, verify=pem)

    assert friend.shown != [{}]
    assert stranger.shown == [{}]


@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_answer_that_drips_over_tls_ends_at_the_deadline(
    serve: Serve, session: requests.Session, pem: str, act: Callable[[socket], None]
) -> None:
    server = serve()
    session.get(server.url, verify=pem)
    server.act = act

    with pytest.raises(requests.RequestException), within(0.3):
        session.get(server.url, verify=pem)


class _Slow(_Secure):
    def _read(self, connection: socket) -> str:
        while connection.recv(16384):
            threading.Event().wait(0.02)
        return ""


def test_body_that_is_read_slowly_over_tls_ends_at_the_deadline(session: requests.Session, pem: str) -> None:
    server, began = _Slow(pem), time.monotonic()

    with pytest.raises(requests.RequestException), within(0.5):
        session.post(server.url, data=b"x" * 30_000_000, verify=pem)

    assert time.monotonic() - began < 3
    server.close()
