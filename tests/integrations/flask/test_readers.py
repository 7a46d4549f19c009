"""Authorization of those who read status, events and the live page."""

from typing import Any

import pytest
from flask import Flask

from cb import ConfigError
from cb.integrations.flask import CircuitBreakers
from tests.support.bakery import OPEN, REASON, an_app, guarded

pytestmark = pytest.mark.usefixtures("state")

TOKEN = "t" * 32
P = "/circuit-breakers"
SHOWN = [f"{P}/status", f"{P}/events", f"{P}/data", f"{P}/"]
FILES = [f"{P}/page.js", f"{P}/page.css"]
STRANGER: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
#: requests that come from another host, or may do so
STRANGERS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"REMOTE_ADDR": "192.0.2.1"}, {}),
    ({"REMOTE_ADDR": "2001:db8::1"}, {}),
    ({"REMOTE_ADDR": "::ffff:192.0.2.1"}, {}),
    ({"REMOTE_ADDR": ""}, {}),
    ({"REMOTE_ADDR": "unix:"}, {}),
    ({}, {"Host": "shop.example"}),
    ({}, {"X-Forwarded-For": "127.0.0.1"}),
    ({}, {"Via": "1.1 proxy"}),
    ({}, {"Origin": "https://evil.example"}),
    ({"SERVER_PROTOCOL": "HTTP/1.0"}, {}),
]


@pytest.fixture
def app() -> Flask:
    return an_app(TESTING=True)


@pytest.mark.parametrize(("environ", "headers"), STRANGERS)
def test_strangers_see_nothing_and_are_told_what_opens_it(
    app: Flask, environ: dict[str, str], headers: dict[str, str]
) -> None:
    client = guarded(app, CircuitBreakers(app))
    for path in SHOWN + FILES:
        answer = client.get(path, environ_overrides=environ, headers=headers)
        assert (answer.status_code, answer.mimetype) == (403, "application/problem+json"), path
        assert answer.json and answer.json["code"] == "not-public"
        assert "CB_ADMIN_TOKEN" in answer.json["detail"] and "public=True" in answer.json["detail"]
        assert "vendor" not in answer.text
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_host_sees_all_of_it_also_where_operators_have_a_token(app: Flask, address: str) -> None:
    client = guarded(app, CircuitBreakers(app, token=TOKEN))
    for path in SHOWN + FILES:
        assert client.get(path, environ_overrides={"REMOTE_ADDR": address}).status_code == 200
    assert client.get(f"{P}/data").json["operator"] is False


def test_token_opens_it_to_strangers_and_a_wrong_one_does_not(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, token=TOKEN))
    for path in SHOWN:
        for token, status in ((TOKEN, 200), (f"{TOKEN}x", 403), ("", 403)):
            answer = client.get(path, headers={"Authorization": f"Bearer {token}"}, **STRANGER)
            assert answer.status_code == status, path
    seen = client.get(f"{P}/data", headers={"Authorization": f"Bearer {TOKEN}"}, **STRANGER)
    assert seen.json and seen.json["operator"] is True


def test_browsers_of_strangers_get_a_page_that_asks_for_the_token_and_no_data(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, token=TOKEN))
    answer = client.get(f"{P}/", headers={"Accept": "text/html,*/*;q=0.8"}, **STRANGER)
    assert (answer.status_code, answer.mimetype) == (403, "text/html")
    assert "Operators' token" in answer.text and "vendor" not in answer.text and "shop" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert {client.get(path, **STRANGER).status_code for path in FILES} == {200}
    known = client.get(f"{P}/").headers["ETag"]
    revalidated = client.get(f"{P}/", headers={"Accept": "text/html", "If-None-Match": known}, **STRANGER)
    assert revalidated.status_code == 403


@pytest.mark.parametrize("place", ["argument", "config"])
def test_public_opens_it_to_all_and_gives_no_control(app: Flask, place: str) -> None:
    if place == "config":
        app.config["CB_PUBLIC"] = True
    client = guarded(app, CircuitBreakers(app, public=place == "argument"))
    for path in SHOWN + FILES:
        assert client.get(path, **STRANGER).status_code == 200
    assert client.get(f"{P}/data", **STRANGER).json["operator"] is False
    assert client.post(OPEN, json=REASON, **STRANGER).status_code == 401


def test_config_that_is_not_public_goes_before_the_argument(app: Flask) -> None:
    app.config["CB_PUBLIC"] = False
    CircuitBreakers(app, public=True)
    assert app.test_client().get(f"{P}/status", **STRANGER).status_code == 403


@pytest.mark.parametrize("value", ["false", "", 0, 1, [], "True"])
@pytest.mark.parametrize("field", ["public", "CB_PUBLIC"])
def test_public_that_is_neither_true_nor_false_is_refused(app: Flask, field: str, value: Any) -> None:
    options = {"public": value} if field == "public" else {}
    if field == "CB_PUBLIC":
        app.config["CB_PUBLIC"] = value
    with pytest.raises(ConfigError, match=f"{field} must be True or False"):
        CircuitBreakers(app, **options)
    assert "circuit_breakers" not in app.extensions


def test_metrics_are_there_for_a_prometheus_on_another_host(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, metrics=True))
    assert "circuit_breaker_state" in client.get("/metrics", **STRANGER).text
