"""The routes that `CircuitBreakers(app)` gives a Flask app, and who may use them."""

import pytest
from flask import Blueprint, Flask

from cb import State
from cb.web import CircuitBreakers, SettingsError
from tests.web.bakery import OPEN, REASON, STATUS, an_app, guarded

TOKEN = "t" * 32
pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def app() -> Flask:
    return an_app(TESTING=True)


@pytest.mark.parametrize("prefix", ["", "/ops"])
def test_status_page_and_its_files_are_below_the_prefix(app: Flask, prefix: str) -> None:
    client = guarded(app, CircuitBreakers(app, url_prefix=prefix))
    status = client.get(prefix + STATUS)
    assert status.json and status.json["service"] == "shop"
    assert set(status.json["breakers"]) == {"crowded", "vendor"}
    page = client.get(f"{prefix}/dashboard")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert client.get(f"{prefix}/dashboard/page.js").status_code == 200
    data = client.get(f"{prefix}/dashboard/data")
    assert data.json and data.json["operator"] is True
    assert data.headers["Cache-Control"] == "no-store"


def test_without_routes_there_are_none(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, routes=False))
    assert {client.get(path).status_code for path in (STATUS, "/dashboard", "/metrics")} == {404}
    assert client.post(OPEN, json=REASON).status_code == 404


def test_names_that_the_routes_have_are_free_for_the_app(app: Flask) -> None:
    for name in ("dashboard", "operator", "circuit-breaker"):
        app.register_blueprint(Blueprint(name, name))
    CircuitBreakers(app)
    assert app.test_client().get("/dashboard").status_code == 200


@pytest.mark.parametrize(
    ("environ", "headers"),
    [
        ({"REMOTE_ADDR": "192.0.2.1"}, {}),
        ({"REMOTE_ADDR": ""}, {}),
        ({}, {"Host": "shop.example"}),
        ({}, {"Host": "127.0.0.1.evil.example"}),
        ({}, {"X-Forwarded-For": "127.0.0.1"}),
        ({}, {"Forwarded": "for=127.0.0.1"}),
        ({}, {"X-Real-IP": "127.0.0.1"}),
        ({}, {"Via": "1.1 proxy"}),
    ],
)
def test_without_a_token_only_this_host_steers(app: Flask, environ: dict[str, str], headers: dict[str, str]) -> None:
    breakers = CircuitBreakers(app)
    client = guarded(app, breakers)
    told = client.get("/dashboard/data", environ_overrides=environ, headers=headers).json
    assert told and told["operator"] is False
    assert client.post(OPEN, json=REASON, environ_overrides=environ, headers=headers).status_code == 401
    assert breakers.registry.get("vendor").state is State.CLOSED
    assert client.post(OPEN, json=REASON).status_code == 200
    assert breakers.registry.get("vendor").state is State.FORCED_OPEN


@pytest.mark.parametrize("place", ["config", "argument", "environment"])
def test_with_a_token_only_those_who_show_it_steer(app: Flask, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "config":
        app.config["CB_ADMIN_TOKEN"] = TOKEN
    if place == "environment":
        monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
    client = guarded(app, CircuitBreakers(app, token=TOKEN if place == "argument" else None))
    assert client.post(OPEN, json=REASON).status_code == 401
    shown = {"Authorization": f"Bearer {TOKEN}", "Host": "shop.example"}
    assert client.post(OPEN, json=REASON, headers=shown).status_code == 200


def test_token_that_is_too_short_is_refused(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_ADMIN_TOKEN", "short")
    with pytest.raises(SettingsError, match="must be 16 to 200"):
        CircuitBreakers(app)


def test_body_of_a_command_is_read_no_further_than_it_may_be_long(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app))
    assert client.post(OPEN, json={"reason": "x" * 70_000}).status_code == 413


def test_metrics_of_http_and_breakers_are_there_where_they_are_wanted(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, metrics=True))
    client.get("/own")
    text = client.get("/metrics").text
    assert 'circuit_breaker_state{name="vendor",state="CLOSED"} 1.0' in text
    assert 'flask_http_request_total{method="GET",status="418"} 1.0' in text


def test_metrics_of_the_app_itself_are_left_alone(app: Flask) -> None:
    CircuitBreakers(app)
    app.add_url_rule("/metrics", view_func=lambda: "mine")
    assert app.test_client().get("/metrics").text == "mine"
