"""Security headers of every response of every service."""

import re
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

import gateway
import marketdata
import portfolio
from servicekit import Settings
from tests.support import ROOT, shop
from tests.support.shop_service import Service

VALUES = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: headers of a cross-origin request
FOREIGN = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}


@pytest.fixture(params=[gateway, portfolio, marketdata, shop], ids=lambda each: each.__name__)
def app(request: pytest.FixtureRequest, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Return each service's app."""
    if request.param is not shop:
        monkeypatch.setenv("CB_CONFIG", str(ROOT / "config/config.yaml"))
        for name in ("gateway", "portfolio"):
            monkeypatch.setenv(f"CB_SERVICES__{name.upper()}__DATABASE", f"sqlite:///{tmp_path}/{name}.db")
        monkeypatch.setenv("CB_STATE__URL", "memory://")
    app: Flask = request.param.create_app()
    for duty in app.extensions.get("background", ()):
        duty.close()
    if "monitor" in app.extensions:
        app.extensions["monitor"].close()
    return app


def check(answer: TestResponse | requests.Response, what: str) -> None:
    headers = dict(answer.headers.items())
    assert {name: headers.get(name) for name in VALUES} == VALUES, what
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'"), what
    assert "frame-ancestors 'none'" in policy, what
    assert not re.search(r"unsafe|\*|http:", policy), what
    assert headers["Cache-Control"] in ("no-store", "no-cache"), what
    assert not [name for name in headers if name.lower().startswith("access-control-")], what
    assert not re.search(r"[0-9]", headers.get("Server", "")), what
    assert "X-Powered-By" not in headers, what


def path_of(rule: Rule) -> str:
    values: dict[str, Any] = dict.fromkeys(rule.arguments, "x")
    values |= {"action": "reset"} if "action" in values else {}
    built = rule.build(values)
    assert built
    return built[1]


def test_every_route_and_method_has_the_headers(app: Flask) -> None:
    client = app.test_client()
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]
    assert len(rules) > 10
    for rule in rules:
        path = path_of(rule)
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE", "BREW"):
            for headers in ({}, FOREIGN, {"Host": "evil.example"}):
                check(client.open(path, method=method, headers=headers), f"{method} {path}")


def test_unknown_routes_have_the_headers(app: Flask) -> None:
    client: FlaskClient = app.test_client()
    for path in ("/", "/nothing", "//", "/api/v1/../x", "/dashboard/nothing.js", "/dashboard/page.js", "/favicon.ico"):
        check(client.get(path, headers=FOREIGN), path)
    for path in ("/api/v1/trades", "/api/v1/orders", "/api/v1/portfolio/u/positions", "/api/v1/simulate/failure"):
        for body in ("{", "{}", "[]"):
            check(client.post(path, data=body, content_type="application/json"), path)
            check(client.post(path, data=body), path)


def test_service_has_no_debugger_and_no_session(app: Flask) -> None:
    settings: Settings = app.extensions["settings"]
    assert settings.admin_token is None
    assert not app.debug
    assert app.secret_key is None
    assert "Set-Cookie" not in app.test_client().get("/dashboard").headers


def test_internal_error_has_the_headers_and_no_details(config: Path) -> None:
    answer = shop.create_app().test_client().get("/api/v1/bug", headers=FOREIGN)
    check(answer, "bug")
    assert answer.status_code == 500
    assert not re.search(r"Traceback|RuntimeError|secret|\.py", answer.text)


def test_headers_are_sent_by_a_real_server(gunicorn: Service) -> None:
    for path in ("/metrics", "/dashboard", "/api/v1/nothing", "/api/v1/bug", "/api/v1/stock/pen"):
        check(requests.get(gunicorn.url + path, headers=FOREIGN, timeout=5), path)
