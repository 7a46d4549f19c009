"""The routes for urls.py: status, events, live page and commands, with their authentication."""

import json
from typing import Any

import pytest
from django.test import Client, override_settings

from cb import State
from cb.integrations.django import breakers

from .conftest import LOCAL, force_open

TOKEN = "a-token-of-the-operators"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
REASON = json.dumps({"reason": "a test"})
READ = ["status", "events", "data", ""]


def stranger(**more: Any) -> Client:
    """Return a client on another host."""
    return Client(raise_request_exception=False, **{**LOCAL, "REMOTE_ADDR": "192.0.2.7"}, **more)


@pytest.mark.parametrize("path", [*READ, "page.js", "page.html"])
def test_routes_are_shown_to_this_host(path: str, client: Client) -> None:
    force_open("vendor")
    response = client.get(f"/ops/{path}")
    assert response.status_code == 200
    assert response["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", READ)
def test_routes_are_refused_to_strangers(path: str) -> None:
    assert stranger().get(f"/ops/{path}").status_code == 403


@pytest.mark.parametrize("path", READ)
def test_token_opens_the_routes_to_strangers(path: str, options: dict[str, Any]) -> None:
    with override_settings(CIRCUIT_BREAKERS={**options, "token": TOKEN}):
        assert stranger().get(f"/ops/{path}").status_code == 403
        assert stranger().get(f"/ops/{path}", headers=BEARER).status_code == 200


def test_status_has_all_breakers(client: Client) -> None:
    force_open("vendor")
    shown = client.get("/ops/status").json()
    assert (shown["service"], shown["breakers"]["vendor"]["state"]) == ("tests", "FORCED_OPEN")


@pytest.mark.parametrize("path", ["vendor/force-open", "force-open?name=vendor"])
def test_commands_need_the_token_and_no_csrf_token(path: str, options: dict[str, Any]) -> None:
    with override_settings(CIRCUIT_BREAKERS={**options, "token": TOKEN}):
        breakers.get("vendor")
        strict = stranger(enforce_csrf_checks=True)
        sent: dict[str, Any] = {"data": REASON, "content_type": "application/json"}
        assert strict.post(f"/ops/{path}", **sent).status_code == 401
        assert breakers.get("vendor").state is State.CLOSED
        response = strict.post(f"/ops/{path}", **sent, headers=BEARER)
        assert (response.status_code, response.json()["to"]) == (200, "FORCED_OPEN")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "vendor/force-open", "{", 400),
        ("post", "vendor/force-open", "{}", 422),
        ("post", "vendor/force-open", json.dumps({"reason": "x" * 70_000}), 413),
        ("post", "unknown/force-open", REASON, 404),
        ("get", "vendor/force-open", "", 405),
        ("post", "status", REASON, 405),
        ("get", "nothing.js", "", 404),
    ],
)
def test_bad_requests_are_refused(method: str, path: str, body: str, status: int, client: Client) -> None:
    breakers.get("vendor")
    response = client.generic(method.upper(), f"/ops/{path}", body, "application/json")
    assert response.status_code == status
    assert breakers.get("vendor").state is State.CLOSED


def test_name_with_slashes_is_found(client: Client) -> None:
    breakers.get("https://api.example.com")
    response = client.post("/ops/https:/api.example.com/disable", REASON, content_type="application/json")
    assert response.json()["to"] == "DISABLED"
