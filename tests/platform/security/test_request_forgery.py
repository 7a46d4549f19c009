"""Server-side request forgery: input never decides where the gateway sends requests."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

import gateway
from servicekit import SettingsError
from tests.support.gateways import alone
from tests.support.misbehaving import Server, answer

QUOTE = answer(200, '{"symbol": "AAPL", "price": "150.10", "time": "2026-01-01T00:00:00Z", "currency": "USD"}')
HOLDINGS = answer(200, '{"userId": "user123", "cash": "1.00", "positions": []}')
ORDER = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00}
#: ids that would change the path of a request
WRONG = [
    *(
        "..",
        "%2e%2e",
        "%252e%252e",
        "..%2f..",
        "a%2f..%2f..",
        ".",
        "a?x=1",
        "a%3fx=1",
        "a%23",
        "a;x=1",
        "a%5c..",
        "a%00",
    ),
    *(
        "a%0d%0aHost:evil",
        "@evil",
        "evil.example:80",
        "http:%2f%2fevil",
        "%2f%2fevil",
        "a%20b",
        "%ff",
        "\u2025",
        "x" * 65,
    ),
]
PREFIXES = ("/api/v1/portfolio/", "/api/v1/market-data/", "/api/v1/trades/", "/api/v1/notifications/")


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[Server]:
    """Yield a proxy that records all requests."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def gateway_app(tmp_path_factory: pytest.TempPathFactory, stand_in: Server, proxy: Server) -> Iterator[Flask]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        directory = tmp_path_factory.mktemp("gateway")
        yield alone(monkeypatch, directory, market_data=stand_in.url, portfolio=stand_in.url)


@pytest.fixture
def inner(gateway_app: Flask, stand_in: Server) -> Server:
    """Return the stand-in for portfolio and market data, before the first request, with all circuits closed."""
    for breaker in gateway_app.extensions["circuit_breakers"].registry:
        breaker.control.reset(reason="the next test")
    stand_in.requests.clear()
    stand_in.act = answer(200, "{}")
    return stand_in


@pytest.fixture
def server(proxy: Server) -> Server:
    """Return the proxy, before the first request."""
    proxy.requests.clear()
    proxy.connections = 0
    return proxy


@pytest.fixture
def app(gateway_app: Flask) -> Flask:
    return gateway_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", WRONG)
def test_path_with_a_malicious_id_is_refused_by_the_gateway(
    client: FlaskClient, inner: Server, prefix: str, name: str
) -> None:
    answered = client.get(prefix + name)
    if "?" in name:  # the rest is the query of the gateway's own route
        assert all("x=1" not in request.partition("\r\n")[0] for request in inner.requests)
        return
    assert 400 <= answered.status_code < 500
    assert inner.requests == []


@pytest.mark.parametrize("field", ["userId", "symbol"])
@pytest.mark.parametrize(
    "name", ["..", "../../simulate/failure", "a?void=1", "a/b", "a#b", "a%2f", "http://evil/", "a\r\nb"]
)
def test_order_with_a_malicious_id_is_refused_by_the_gateway(
    client: FlaskClient, inner: Server, field: str, name: str
) -> None:
    assert client.post("/api/v1/trades", json={**ORDER, field: name}).status_code == 422
    assert inner.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_of_a_dependency_is_not_followed(
    client: FlaskClient, inner: Server, server: Server, status: int
) -> None:
    inner.act = answer(status, "{}", f"Location: {server.url}/stolen")
    for path in ("/api/v1/portfolio/user123", "/api/v1/market-data/AAPL"):
        assert client.get(path).status_code >= 500
    assert client.post("/api/v1/trades", json=ORDER).status_code >= 500
    assert server.requests == []


def test_proxy_in_the_environment_is_not_used(client: FlaskClient, inner: Server, server: Server) -> None:
    inner.act = QUOTE
    assert client.get("/api/v1/market-data/AAPL").status_code == 200
    inner.act = HOLDINGS
    assert client.get("/api/v1/portfolio/user123").status_code == 200
    client.post("/api/v1/trades", json=ORDER)
    assert len(inner.requests) > 2
    assert server.connections == 0


@pytest.mark.parametrize(
    "name", ["X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "Referer", "Origin"]
)
def test_client_headers_do_not_redirect_requests(client: FlaskClient, inner: Server, server: Server, name: str) -> None:
    inner.act = QUOTE
    assert client.get("/api/v1/market-data/AAPL", headers={name: server.url}).status_code == 200
    assert server.connections == 0
    assert inner.requests[0].startswith("GET /api/v1/prices/AAPL HTTP/1.1\r\n")
    assert server.url not in inner.requests[0]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "ftp://host",
            "http://user:secret@host",
            "http://host/path",
            "http://host?x=1",
            "http://",
        ),
        *("//host", "http://host#x", "http://host\\@evil", "http://a b", "http://host:80:80", "gopher://host", ""),
    ],
)
def test_invalid_base_url_in_the_settings_is_refused(app: Flask, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CB_SERVICES__GATEWAY__PORTFOLIO_URL", f"'{url}'")
    with pytest.raises(SettingsError) as caught:
        gateway.create_app()
    assert caught.value.key == "services.gateway.portfolio_url"
    assert "secret" not in str(caught.value)
