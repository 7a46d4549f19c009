"""TLS: verification and client certificates of one request do not affect others."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from socket import socket
from typing import Any

import pytest
import requests
from urllib3 import HTTPSConnectionPool, PoolManager

from cb import Registry
from cb.http import CircuitBreakerAdapter, DeadlineAdapter, within
from tests.http.conftest import Secure
from tests.support.misbehaving import drip_body, drip_headers


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", DeadlineAdapter())
        yield session


Serve = Callable[..., Secure]


def test_untrusted_certificate_is_rejected(serve: Serve, session: requests.Session) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        session.get(serve().url)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_request_without_verification_does_not_affect_others(serve: Serve, session: requests.Session) -> None:
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


def test_client_certificate_is_sent_only_to_its_host(serve: Serve, session: requests.Session, pem: str) -> None:
    friend, stranger = serve(), serve()

    session.get(friend.url, verify=pem, cert=pem)
    session.get(stranger.url, verify=pem)

    assert friend.shown != [{}]
    assert stranger.shown == [{}]


@pytest.mark.parametrize("act", [drip_headers, drip_body])
def test_slow_response_over_tls_ends_at_the_deadline(
    serve: Serve, session: requests.Session, pem: str, act: Callable[[socket], None]
) -> None:
    server = serve()
    session.get(server.url, verify=pem)
    server.act = act

    with pytest.raises(requests.RequestException), within(0.3):
        session.get(server.url, verify=pem)


class _Slow(Secure):
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


def adapter(**pool: Any) -> CircuitBreakerAdapter:
    """Return an adapter whose pools have options, as in the documentation of requests."""

    class Mine(CircuitBreakerAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options, **pool)

    return Mine(Registry(), timeout=5)


def own_manager(**pool: Any) -> CircuitBreakerAdapter:
    class Mine(CircuitBreakerAdapter):
        def init_poolmanager(self, connections: int, maxsize: int, block: bool = False) -> None:  # type: ignore[override]  # as in the documentation of requests
            self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **pool)

    return Mine(Registry(), timeout=5)


def context_of(pem: str, **attributes: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pem)
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("make", [adapter, own_manager])
@pytest.mark.parametrize("option", ["ssl_maximum_version", "ssl_context"])
def test_tls_version_of_an_adapter_is_used(
    serve: Serve, session: requests.Session, pem: str, make: Callable[..., CircuitBreakerAdapter], option: str
) -> None:
    value = TLS12 if option == "ssl_maximum_version" else context_of(pem, maximum_version=TLS12)
    session.mount("https://", make(**{option: value}))
    server = serve()

    assert session.get(server.url, verify=pem).status_code == 200
    assert server.versions == ["TLSv1.2"]


@pytest.mark.parametrize("make", [adapter, own_manager])
@pytest.mark.parametrize(
    "options",
    [
        {"ssl_minimum_version": TLS13},
        {"assert_hostname": "elsewhere.test"},
        {"assert_fingerprint": "00" * 32},
        {"server_hostname": "elsewhere.test"},
    ],
)
def test_server_that_does_not_meet_the_options_of_an_adapter_is_rejected(
    serve: Serve, session: requests.Session, pem: str, make: Callable[..., CircuitBreakerAdapter], options: Any
) -> None:
    session.mount("https://", make(**options))

    with pytest.raises(requests.exceptions.SSLError):
        session.get(serve(newest=TLS12).url, verify=pem)


def test_context_of_an_adapter_decides_what_is_trusted(serve: Serve, session: requests.Session, pem: str) -> None:
    session.mount("https://", adapter(ssl_context=context_of(pem)))

    assert session.get(serve().url).status_code == 200  # with the default of `verify`


def test_certificate_in_the_context_of_an_adapter_is_sent(serve: Serve, session: requests.Session, pem: str) -> None:
    context = context_of(pem)
    context.load_cert_chain(pem)
    session.mount("https://", adapter(ssl_context=context))
    server = serve()

    session.get(server.url, verify=pem)

    assert server.shown != [{}]


def test_pool_of_a_subclass_is_used_and_keeps_the_deadline(serve: Serve, session: requests.Session, pem: str) -> None:
    pools = []

    class Mine(CircuitBreakerAdapter):
        def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
            host, _, port = request.url.split("/")[2].partition(":")
            pools.append(HTTPSConnectionPool(host, int(port), ca_certs=pem))
            return pools[-1]

        _get_connection = get_connection_with_tls_context  # as requests 2.32.0 and 2.32.1 have it

    session.mount("https://", Mine(Registry(), timeout=0.3))
    server = serve()
    server.act = drip_body

    with pytest.raises(requests.RequestException):
        session.get(server.url, verify=pem)

    assert [pool.num_requests for pool in pools] == [1]


def test_hosts_share_no_ssl_context(session: requests.Session, pem: str) -> None:
    for port in (1, 2):  # requests shared one context in 2.32.0 to 2.32.4
        with pytest.raises(requests.ConnectionError):
            session.get(f"https://127.0.0.1:{port}/", cert=pem)
    manager = session.get_adapter("https://").poolmanager  # type: ignore[attr-defined]  # an attribute of requests
    pools = [manager.pools[key] for key in manager.pools.keys()]  # noqa: SIM118 - not a mapping

    assert [pool.conn_kw.get("ssl_context") for pool in pools] == [None, None]
