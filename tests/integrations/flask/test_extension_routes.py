"""The routes of `CircuitBreakers(app)`, and their authorization."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Blueprint, Flask

from cb import ConfigError, State
from cb.integrations.flask import CircuitBreakers
from tests.support import ROOT
from tests.support.bakery import OPEN, REASON, STATUS, an_app, guarded
from tests.support.waiting import until

TOKEN = "t" * 32
pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def app() -> Flask:
    return an_app(TESTING=True)


@pytest.mark.parametrize(
    ("options", "api", "page_url", "links"),
    [
        ({}, "/circuit-breakers", "/circuit-breakers/", (".", ".")),
        ({"url_prefix": "/ops"}, "/ops", "/ops/", (".", ".")),
        ({"url_prefix": "/a/b/", "page_url": "/live"}, "/a/b", "/live", ("live", "a/b")),
        ({"page_url": "/a/live/"}, "/circuit-breakers", "/a/live/", (".", "../../circuit-breakers")),
        ({"url_prefix": ""}, "", "/", (".", ".")),
    ],
)
def test_all_routes_are_below_the_prefix_and_the_page_links_to_them(
    app: Flask, options: dict[str, str], api: str, page_url: str, links: tuple[str, str]
) -> None:
    client = guarded(app, CircuitBreakers(app, **options))
    status = client.get(f"{api}/status")
    assert status.json and status.json["service"] == "shop"
    assert set(status.json["breakers"]) == {"crowded", "vendor"}
    assert client.post(f"{api}/vendor/force-open", json=REASON).status_code == 200
    assert client.get(f"{api}/events").json["events"][0]["name"] == "vendor"
    page = client.get(page_url)
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    files, routes = links
    assert f'src="{files}/page.js"' in page.text
    assert f'<meta name="api" content="{routes}">' in page.text
    below = page_url.rstrip("/")
    assert client.get(f"{below}/page.js").status_code == 200
    data = client.get(f"{below}/data")
    assert data.json and data.json["operator"] is True
    assert data.headers["Cache-Control"] == "no-store"


def test_prefix_without_its_slash_leads_to_the_page(app: Flask) -> None:
    CircuitBreakers(app)
    answer = app.test_client().get("/circuit-breakers")
    assert (answer.status_code, answer.headers["Location"]) == (308, "http://localhost/circuit-breakers/")


@pytest.mark.parametrize("path", ["ops", "/<name>", "/a b", "/a//b", 7, b"/ops", "//"])
@pytest.mark.parametrize("field", ["url_prefix", "page_url"])
def test_prefix_that_is_no_path_is_refused(app: Flask, field: str, path: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be a path"):
        CircuitBreakers(app, **{field: path})
    assert "circuit_breakers" not in app.extensions


def test_second_extension_of_one_app_is_refused_and_changes_nothing(app: Flask) -> None:
    first = CircuitBreakers(app)
    with pytest.raises(ConfigError, match="app must have no circuit breakers yet"):
        CircuitBreakers(app, ledger="memory://", public=True)
    assert app.extensions["circuit_breakers"].owner is first


def test_without_routes_there_are_none(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, routes=False))
    assert {client.get(path).status_code for path in (STATUS, "/circuit-breakers/", "/metrics")} == {404}
    assert client.post(OPEN, json=REASON).status_code == 404


def test_names_that_the_routes_have_are_free_for_the_app(app: Flask) -> None:
    for name in ("dashboard", "operator", "circuit-breaker"):
        app.register_blueprint(Blueprint(name, name))
    CircuitBreakers(app)
    assert app.test_client().get("/circuit-breakers/").status_code == 200


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
        ({}, {"CF-Connecting-IP": "192.0.2.1"}),
        ({}, {"x-forwarded-prefix": "/shop"}),
        ({}, {"X-Original-Forwarded-For": "192.0.2.1"}),
        ({}, {"X-Envoy-External-Address": "192.0.2.1"}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
        ({"REMOTE_ADDR": "::ffff:192.0.2.1"}, {}),
        ({"REMOTE_ADDR": "fe80::1%eth0"}, {}),
        ({"REMOTE_ADDR": "unix:"}, {}),
        ({"REMOTE_ADDR": "::ffff:127.0.0.1"}, {"Host": "shop.example"}),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, {"Host": "127.0.0.1:8000"}),
    ],
)
def test_without_a_token_only_this_host_has_control(
    app: Flask, environ: dict[str, str], headers: dict[str, str]
) -> None:
    breakers = CircuitBreakers(app, public=True)
    client = guarded(app, breakers)
    told = client.get("/circuit-breakers/data", environ_overrides=environ, headers=headers).json
    assert told and told["operator"] is False
    assert client.post(OPEN, json=REASON, environ_overrides=environ, headers=headers).status_code == 401
    assert breakers.registry.get("vendor").state is State.CLOSED
    assert client.post(OPEN, json=REASON).status_code == 200
    assert breakers.registry.get("vendor").state is State.FORCED_OPEN


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::1%lo"])
@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]", "127.0.0.2", "localhost."]
)
def test_this_host_is_recognized_by_all_of_its_addresses_and_names(app: Flask, address: str, name: str) -> None:
    client = guarded(app, CircuitBreakers(app))
    headers = {"Host": name, "Origin": f"http://{name}"}
    answer = client.post(OPEN, json=REASON, environ_overrides={"REMOTE_ADDR": address}, headers=headers)
    assert answer.status_code == 200


def test_this_host_controls_a_real_server_on_a_dual_stack_socket(state: Path, tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(
        "from flask import Flask\nfrom cb.integrations.flask import CircuitBreakers\n"
        "app = Flask('both')\nCircuitBreakers(app, ledger='memory://').registry.get('vendor')\n"
    )
    log, environ = tmp_path / "log", os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", "[::]:0", "both:app"]
    with log.open("wb") as stream, subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=stream) as process:
        try:
            until(lambda: "Listening at" in log.read_text())
            port = log.read_text().partition("Listening at: http://[::]:")[2].split()[0]
            for host in ("127.0.0.1", "[::1]"):
                assert requests.post(f"http://{host}:{port}{OPEN}", json=REASON, timeout=10).status_code == 200
        finally:
            process.terminate()


@pytest.mark.parametrize("place", ["config", "argument", "environment"])
def test_configured_token_is_required_for_control(app: Flask, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "config":
        app.config["CB_ADMIN_TOKEN"] = TOKEN
    if place == "environment":
        monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
    client = guarded(app, CircuitBreakers(app, token=TOKEN if place == "argument" else None))
    assert client.post(OPEN, json=REASON).status_code == 401
    shown = {"Authorization": f"Bearer {TOKEN}", "Host": "shop.example"}
    assert client.post(OPEN, json=REASON, headers=shown).status_code == 200


WRONG = (
    "",
    "x",
    "   ",
    "a" * 15,
    "a" * 201,
    "a" * 20 + "\n",
    " " + "a" * 20,
    "a" * 20 + "é",
    "zwei wörter mit abstand",
)


@pytest.mark.parametrize("token", WRONG)
@pytest.mark.parametrize("place", ["config", "argument", "environment", "file"])
def test_token_that_is_easy_to_guess_is_refused_wherever_it_comes_from(
    app: Flask, token: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    argument = token if place == "argument" else None
    if place == "config":
        app.config["CB_ADMIN_TOKEN"] = token
    if place == "environment":
        monkeypatch.setenv("CB_ADMIN_TOKEN", token)
    if place == "file":
        file = tmp_path / "token"
        file.write_text(token.strip())  # a file ends in a newline
        file.chmod(0o600)
        monkeypatch.setenv("CB_ADMIN_TOKEN_FILE", str(file))
        if len(token.strip()) == 20:
            return
    named = "token" if place == "argument" else "CB_ADMIN_TOKEN"
    with pytest.raises(ConfigError, match=rf"{named}.* must ") as raised:
        CircuitBreakers(app, token=argument)
    assert len(token.strip()) < 5 or token.strip() not in str(raised.value)
    assert "circuit_breakers" not in app.extensions


@pytest.mark.parametrize("token", [12345678901234567890, b"a" * 20, False, ["a" * 20], 0])
@pytest.mark.parametrize("place", ["config", "argument"])
def test_token_that_is_no_text_is_refused(app: Flask, token: Any, place: str) -> None:
    if place == "config":
        app.config["CB_ADMIN_TOKEN"] = token
    with pytest.raises(ConfigError, match="must be a string"):
        CircuitBreakers(app, token=token if place == "argument" else None)


def test_body_of_a_command_is_read_no_further_than_it_may_be_long(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app))
    assert client.post(OPEN, json={"reason": "x" * 70_000}).status_code == 413


def test_metrics_of_http_and_breakers_are_there_where_they_are_wanted(app: Flask) -> None:
    client = guarded(app, CircuitBreakers(app, metrics=True))
    client.get("/own")
    text = client.get("/metrics").text
    assert 'circuit_breaker_state{name="vendor",state="CLOSED"} 1.0' in text
    assert 'flask_http_request_total{method="GET",status="418"} 1.0' in text
