"""Trusted host names, against DNS rebinding."""

import json
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient

from tests.platform.security.clients import exchange
from tests.support import shop
from tests.support.shop_service import Service

PATHS = [
    *("/metrics", "/dashboard", "/dashboard/data", "/dashboard/page.js", "/api/v1/health", "/api/v1/health/live"),
    *("/api/v1/circuit-breaker/status", "/api/v1/circuit-breaker/events", "/api/v1/stock/pen", "/api/v1/nothing", "/"),
]
EVIL = [
    *(
        "evil.example",
        "evil.example:8099",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
    ),
    *("evil.example#127.0.0.1", "evil.example/127.0.0.1", "", " ", "127.0.0.1:", "127.0.0.1:x", "[::1", "127.1", "0"),
    *("localhost,evil.example", "2130706433", "localhost:80:80"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:8080"])
def test_request_with_another_host_name_is_refused(client: FlaskClient, name: str, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = client.open(path, method=method, headers={"Host": name})
        assert answer.json is not None
        assert (answer.status_code, answer.json["code"]) == (400, "unknown-host")


@pytest.mark.parametrize("name", EVIL)
def test_similar_host_name_is_refused(client: FlaskClient, name: str) -> None:
    assert client.get("/api/v1/health/live", headers={"Host": name}).status_code == 400


def test_request_from_a_foreign_page_cannot_control_breakers(client: FlaskClient) -> None:
    for path in ("/api/v1/circuit-breaker/own-stock/force-open", "/api/v1/simulate/failure"):
        answer = client.post(path, json={"reason": "evil"}, headers={"Host": "evil.example"})
        assert answer.status_code == 400
    breakers = client.get("/api/v1/circuit-breaker/status").json
    assert breakers and breakers["breakers"]["own-stock"]["state"] == "CLOSED"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8099", "127.0.0.1:8099"])
def test_names_of_this_host_are_accepted(client: FlaskClient, name: str) -> None:
    assert client.get("/api/v1/health/live", headers={"Host": name}).status_code == 200


def test_names_in_the_settings_are_accepted(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CB_SERVER__HOSTS", "[Shop.example, 'fd00::1']")
    client = shop.create_app().test_client()
    for name, status in (("shop.example", 200), ("[FD00::1]:80", 200), ("other.example", 400), ("localhost", 200)):
        assert client.get("/api/v1/health/live", headers={"Host": name}).status_code == status


def test_request_of_http_1_1_without_a_name_is_refused(gunicorn: Service) -> None:
    for version, status in ((b"1.1", b"400"), (b"1.0", b"200")):
        answer = exchange(gunicorn.url, b"GET /metrics HTTP/%s\r\nConnection: close\r\n\r\n" % version)
        assert answer.split(b" ")[1] == status
        if status == b"400":
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "unknown-host"


def test_forwarded_host_name_is_ignored(gunicorn: Service) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"}
    assert requests.get(gunicorn.url + "/metrics", headers=headers, timeout=5).status_code == 400
