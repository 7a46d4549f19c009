"""Fixtures for the tests of the HTTP client."""

import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from socket import socket
from typing import Any

import pytest
import requests

from cb import BreakerConfig, CircuitBreaker
from cb.http import HTTPClient
from cb.testing import FakeClock
from tests.http.bodies import Asked
from tests.support.misbehaving import Server


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("service", BreakerConfig(failure_threshold=3))


@pytest.fixture
def client(server: Server, breaker: CircuitBreaker) -> HTTPClient:
    return HTTPClient(server.url, 2, breaker)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def asked(server: Server, session: requests.Session) -> Asked:
    return Asked(server, session)


def counted(breaker: CircuitBreaker) -> tuple[int, int, int]:
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures, totals.neutral


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with a key and a self-signed certificate for 127.0.0.1."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509", "-days", "2")
    name = ("-subj", "/CN=us", "-addext", "subjectAltName=IP:127.0.0.1")
    key = path.with_suffix(".key")
    subprocess.run(["openssl", "req", *kind, *name, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return str(path)


class Secure(Server):
    """The server over TLS. It requests a client certificate."""

    def __init__(self, pem: str, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = newest
        self._context.load_cert_chain(pem)
        self._context.load_verify_locations(pem)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        #: the certificates of clients, {} for a client without one
        self.shown: list[Any] = []
        #: the TLS versions of the connections
        self.versions: list[str | None] = []
        super().__init__()
        self.url = self.url.replace("http:", "https:")

    def _serve(self, connection: socket) -> None:
        with suppress(OSError):
            secure = self._context.wrap_socket(connection, server_side=True)
            self.shown.append(secure.getpeercert() or {})
            self.versions.append(secure.version())
            super()._serve(secure)


@pytest.fixture
def serve(pem: str) -> Iterator[Callable[..., Secure]]:
    with ExitStack() as stack:

        def serve(**options: Any) -> Secure:
            server = Secure(pem, **options)
            stack.callback(server.close)
            return server

        yield serve
