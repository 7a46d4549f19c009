"""A service on a public address requires tokens to start, and checks them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from portfolio import create_app
from servicekit import SettingsError, load_settings
from tests.support import ROOT
from tests.support.misbehaving import Server, answer
from tests.support.shop_service import SERVE, Service

ADMIN, SERVICE = "correct-horse-battery", "staple-staple-staple"
TOKENS = {"CB_ADMIN_TOKEN": ADMIN, "CB_SERVICE_TOKEN": SERVICE}
OPEN = ("0.0.0.0", "::", "10.0.0.1", "192.0.2.7", "fd00::1", "169.254.1.1")
ORDER = {"tradeId": "t-1", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "1.00"}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("CB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CB_SERVICES__PORTFOLIO__DATABASE", f"sqlite:///{tmp_path}/portfolio.db")


@pytest.mark.parametrize(
    ("package", "tokens", "server"),
    [
        ("gateway", (), "gunicorn"),
        ("portfolio", ("CB_ADMIN_TOKEN",), "gunicorn"),
        ("marketdata", ("CB_SERVICE_TOKEN",), "gunicorn"),
        ("marketdata", (), "waitress"),
    ],
)
def test_service_on_a_public_address_does_not_start_without_tokens(
    package: str, tokens: tuple[str, ...], server: str
) -> None:
    environ = {**os.environ, **{name: TOKENS[name] for name in tokens}, "CB_SERVER__HOST": "0.0.0.0"}
    ran = subprocess.run(
        [sys.executable, "-m", package],
        cwd=ROOT,
        env=environ | {"CB_SERVER": server},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode != 0
    (line,) = ran.stderr.splitlines()
    assert "server.host must be of this host only without CB_ADMIN_TOKEN and CB_SERVICE_TOKEN, got '0.0.0.0'" in line


@pytest.mark.parametrize("host", OPEN)
def test_every_address_except_loopback_is_public(host: str) -> None:
    with pytest.raises(SettingsError, match="only without CB_ADMIN_TOKEN"):
        load_settings("portfolio", environ={"CB_SERVER__HOST": f"'{host}'"})
    assert load_settings("portfolio", environ={"CB_SERVER__HOST": f"'{host}'", **TOKENS}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_need_no_token(host: str) -> None:
    assert load_settings("portfolio", environ={"CB_SERVER__HOST": f"'{host}'"}).admin_token is None


@pytest.mark.parametrize("command", [None, SERVE])
def test_service_on_a_public_address_starts_with_tokens(config: Path, tmp_path: Path, command: Any) -> None:
    server = {"CB_SERVER": "waitress"} if command else {}
    commands = [command] if command else []
    service = Service(tmp_path / "log", *commands, CB_SERVER__HOST="0.0.0.0", **TOKENS, **server)
    try:
        service.wait_until_up()
        path = f"{service.url}/api/v1/simulate/failure"
        assert requests.post(path, json={}, timeout=5).status_code == 401
        assert (
            requests.post(path, json={}, headers={"Authorization": f"Bearer {SERVICE}"}, timeout=5).status_code == 401
        )
        assert requests.post(path, json={}, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=5).status_code == 200
    finally:
        service.stop()
    assert not any(token in service.log.read_text() for token in TOKENS.values())


class TestServiceToken:
    @pytest.fixture
    def client(self, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
        for name, token in TOKENS.items():
            monkeypatch.setenv(name, token)
        return create_app().test_client()

    @pytest.mark.parametrize("shown", [None, "", "Bearer", f"Bearer {ADMIN}", f"Bearer {SERVICE}x", f"Basic {SERVICE}"])
    @pytest.mark.parametrize("path", ["", "/positions", "/voids"])
    def test_portfolio_requires_the_service_token(self, client: FlaskClient, path: str, shown: str | None) -> None:
        headers = {"Authorization": shown} if shown is not None else {}
        method = "POST" if path else "GET"
        answer = client.open(f"/api/v1/portfolio/user123{path}", method=method, json=ORDER, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")

    def test_portfolio_accepts_the_service_token(self, client: FlaskClient) -> None:
        headers = {"Authorization": f"Bearer {SERVICE}"}
        assert client.post("/api/v1/portfolio/u/positions", json=ORDER, headers=headers).status_code == 201
        assert client.get("/api/v1/portfolio/u", headers=headers).status_code == 200


@pytest.fixture
def portfolio() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_gateway_sends_the_service_token_only_to_services(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, portfolio: Server, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    import gateway

    portfolio.act = answer(302, "{}", f"Location: {server.url}/stolen")
    settings = {
        **TOKENS,
        "CB_STATE__URL": "memory://",
        "CB_SERVICES__GATEWAY__DATABASE": f"sqlite:///{tmp_path}/gateway.db",
        "CB_SERVICES__GATEWAY__PORTFOLIO_URL": portfolio.url,
        "CB_SERVICES__GATEWAY__MARKET_DATA_URL": portfolio.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = gateway.create_app()
    for duty in (*app.extensions["background"], app.extensions["monitor"]):
        getattr(duty, "close", getattr(duty, "stop", None))()
    # The client's token is not passed on to other services.
    app.test_client().get("/api/v1/portfolio/user123", headers={"Authorization": "Bearer mine"})
    assert portfolio.requests
    assert all(f"\r\nAuthorization: Bearer {SERVICE}\r\n" in request for request in portfolio.requests)
    assert not any("mine" in request for request in portfolio.requests)
    assert server.requests == []
    assert SERVICE not in caplog.text + repr(load_settings("gateway"))
