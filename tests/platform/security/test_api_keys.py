"""API keys: a user accesses only its own data; anything else is 404."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from servicekit import SettingsError, load_settings
from servicekit.api_keys import main
from servicekit.tokens import hash_key
from tests.support import ROOT
from tests.support.gateways import alone
from tests.support.misbehaving import Server, answer

ADMIN, SERVICE = "correct-horse-battery", "staple-staple-staple"
KEYS = {"alice": "key-of-alice-1", "bob": "key-of-bob-1", "old": "key-of-alice-0"}
ORDER = {"userId": "alice", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00}
CONFIG = f"""
api_keys:
  alice: [{hash_key(KEYS["alice"])}, "{hash_key(KEYS["old"])}"]
  bob: {hash_key(KEYS["bob"])}
"""


def shows(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS.get(user, user)}"}


@pytest.fixture
def inner() -> Iterator[Server]:
    """Yield a stand-in for portfolio and market data."""
    server = Server()

    def act(connection: Any) -> None:
        request = server.requests[-1]
        if request.startswith("GET /api/v1/prices"):
            reply = {"symbol": "AAPL", "price": "150.10", "time": "2026-01-01T00:00:00Z", "currency": "USD"}
        elif request.startswith("GET"):
            reply = {"userId": request.split(" ")[1].rpartition("/")[2], "cash": "1000.00", "positions": []}
        else:
            reply = {"tradeId": json.loads(request.partition("\r\n\r\n")[2])["tradeId"], "status": "FILLED"}
        answer(201 if request.startswith("POST") else 200, json.dumps(reply))(connection)

    server.act = act
    yield server
    server.close()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inner: Server) -> Flask:
    (tmp_path / "config.yaml").write_text((ROOT / "config/config.yaml").read_text().replace("api_keys: {}", CONFIG))
    app = alone(
        monkeypatch,
        tmp_path,
        market_data=inner.url,
        portfolio=inner.url,
        CONFIG=str(tmp_path / "config.yaml"),
        ADMIN_TOKEN=ADMIN,
    )
    inner.requests.clear()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def code(response: TestResponse) -> tuple[int, str | None]:
    return response.status_code, (response.json or {}).get("code")


def own_routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield method and path of all routes of the gateway's blueprints, with alice as the user."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(("gateway.", "history.")):
            values = {"user_id": "alice", "trade_id": "t-1", "symbol": "AAPL"}
            built = rule.build({name: values[name] for name in rule.arguments})
            assert built and rule.methods
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                yield method, built[1]


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", "Bearer x", f"Basic {KEYS['alice']}", KEYS["alice"], f"Bearer {SERVICE}"]
)
def test_request_without_a_key_is_401(app: Flask, client: FlaskClient, inner: Server, shown: str | None) -> None:
    headers = {} if shown is None else {"Authorization": shown}
    routes = list(own_routes(app))
    assert len(routes) > 8
    for method, path in routes:
        refused = client.open(path, method=method, json=ORDER if method == "POST" else None, headers=headers)
        assert code(refused) == (401, "unauthorized"), path
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert inner.requests == []


@pytest.mark.parametrize("shown", [hash_key(KEYS["alice"]), hash_key(KEYS["alice"])[7:], KEYS["alice"][:-1], "alice"])
def test_hash_of_a_key_is_not_accepted_as_a_key(client: FlaskClient, shown: str) -> None:
    refused = client.get("/api/v1/portfolio/alice", headers={"Authorization": f"Bearer {shown}"})
    assert code(refused) == (401, "unauthorized")


def test_user_accesses_its_own_data(client: FlaskClient) -> None:
    for shown in ("alice", "old"):
        placed = client.post("/api/v1/trades", json=ORDER, headers=shows(shown))
        assert placed.status_code == 201
        for path in (placed.headers["Location"], "/api/v1/trades?userId=alice", "/api/v1/portfolio/alice"):
            assert client.get(path, headers=shows(shown)).status_code == 200
        assert client.get("/api/v1/notifications/alice", headers=shows(shown)).status_code == 200
        assert client.get("/api/v1/market-data/AAPL", headers=shows(shown)).status_code == 200


def test_data_of_another_user_is_404(client: FlaskClient, inner: Server) -> None:
    placed = client.post("/api/v1/trades", json=ORDER, headers={**shows("alice"), "Idempotency-Key": "k-1"})
    location = placed.headers["Location"]
    inner.requests.clear()
    bob = shows("bob")
    for path in ("/api/v1/portfolio/alice", "/api/v1/notifications/alice", "/api/v1/trades?userId=alice"):
        assert code(client.get(path, headers=bob)) == (404, "unknown-user")
    for order in ({**ORDER, "quantity": 2}, ORDER):
        headers = {**bob, "Idempotency-Key": "k-1"}
        assert code(client.post("/api/v1/trades", json=order, headers=headers)) == (404, "unknown-user")
    assert inner.requests == []

    other, none = (client.get(path, headers=bob) for path in (location, "/api/v1/trades/none"))
    assert code(other) == code(none) == (404, "unknown-trade")
    same = [
        {**(each.json or {}), "request_id": "", "detail": (each.json or {})["detail"].rpartition(" ")[0]}
        for each in (other, none)
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/api/v1/trades?userId=bob&userId=alice",
            "/api/v1/trades?userId=alice&userId=bob",
            "/api/v1/trades?user_id=alice",
        ),
        *("/api/v1/portfolio/alice?userId=bob", "/api/v1/portfolio/ALICE", "/api/v1/notifications/alice%20"),
        *("/api/v1/trades", "/api/v1/trades?userId=", "/api/v1/trades?userId=bob%00"),
    ],
)
def test_other_spelling_of_a_user_id_gives_no_access(client: FlaskClient, path: str) -> None:
    assert 400 <= client.get(path, headers=shows("bob")).status_code < 500


def test_order_cannot_name_two_users(client: FlaskClient, inner: Server) -> None:
    text = json.dumps(ORDER).replace("{", '{"userId": "bob", ', 1)
    headers = {**shows("bob"), "Content-Type": "application/json"}
    assert client.post("/api/v1/trades", data=text, headers=headers).status_code == 400
    assert inner.requests == []


@pytest.mark.parametrize("path", ["/api/v1/audit/trades", "/api/v1/audit/verify", "/api/v1/notifications"])
def test_resources_of_all_users_require_the_operators_token(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers=shows("alice")).status_code == 401
    assert client.get(path, headers=shows(ADMIN)).status_code == 200


def test_users_key_controls_nothing_and_operators_token_trades_nothing(client: FlaskClient) -> None:
    for path in ("/api/v1/circuit-breaker/risk/force-open", "/api/v1/risk/simulate/failure"):
        assert client.post(path, json={"reason": "x"}, headers=shows("alice")).status_code == 401
    assert client.post("/api/v1/trades", json=ORDER, headers=shows(ADMIN)).status_code == 401


def test_without_keys_any_client_acts_for_any_user(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_CONFIG", str(ROOT / "config/config.yaml"))
    assert load_settings("gateway").api_keys == {}
    with pytest.raises(SettingsError, match="api_keys must name the users where others than this host"):
        load_settings(
            "gateway", environ={"CB_SERVER__HOST": "0.0.0.0", "CB_ADMIN_TOKEN": ADMIN, "CB_SERVICE_TOKEN": SERVICE}
        )


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ("{alice: key-of-alice-1}", "be sha256: and 64 hexadecimal digits"),
        (f"{{alice: {'0' * 64}}}", "be sha256: and 64 hexadecimal digits"),
        ("{alice: []}", "be sha256: and 64 hexadecimal digits"),
        ("{alice: 5}", "be sha256: and 64 hexadecimal digits"),
        (f"{{'a b': '{hash_key('x')}'}}", "be the id of a user"),
        (f"{{alice: '{hash_key('x')}', bob: '{hash_key('x')}'}}", "not be that of alice too"),
        ("[a]", "be a section"),
    ],
)
def test_invalid_keys_prevent_the_start(config: Path, keys: str, rule: str) -> None:
    config.write_text(f"services: {{shop: {{port: 8099}}}}\napi_keys: {keys}")
    with pytest.raises(SettingsError) as caught:
        load_settings("shop", environ={"CB_CONFIG": str(config), "CB_ADMIN_TOKEN": ADMIN})
    assert rule in str(caught.value)
    assert "key-of-alice" not in str(caught.value)


def test_keys_need_the_token_of_operators(config: Path) -> None:
    config.write_text(f"services: {{shop: {{port: 8099}}}}{CONFIG}")
    with pytest.raises(SettingsError, match="api_keys must stand beside CB_ADMIN_TOKEN"):
        load_settings("shop")


def test_command_creates_a_valid_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alice"]) == 0
    told = capsys.readouterr().out.splitlines()
    key = told[0].removeprefix("for alice alone: ")
    assert len(key) >= 40
    assert told[-1] == f"  alice: {hash_key(key)}"
    assert main(["a b"]) == main([]) == 2
