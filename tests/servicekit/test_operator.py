"""Operators' commands over HTTP, and the log of state changes."""

from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cb import CircuitBreaker, Ledger, Registry, State
from tests.support import shop
from tests.support.shop_service import Service

API = "/api/v1/circuit-breaker"
REASON = {"reason": "the bank migrates"}


@pytest.fixture(params=["memory", "file"])
def app(config: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Flask:
    if request.param == "memory":
        monkeypatch.setenv("CB_STATE__URL", "memory://")
    return shop.create_app()


def registry(app: Flask) -> Registry:
    found: Registry = app.extensions["circuit_breakers"].registry
    return found


def stock(app: Flask) -> CircuitBreaker:
    return registry(app).get("own-stock")


def problem(answer: TestResponse) -> tuple[int, str]:
    assert answer.json is not None
    assert answer.content_type == "application/problem+json"
    return answer.status_code, answer.json["code"]


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("force-open", State.FORCED_OPEN),
        ("disable", State.DISABLED),
        ("metrics-only", State.METRICS_ONLY),
        ("reset", State.CLOSED),
    ],
)
def test_action_changes_the_state_and_the_log_has_author_and_reason(app: Flask, action: str, state: State) -> None:
    headers = {"X-Operator": "alice@example.com", "X-Request-ID": "r-1"}
    answer = app.test_client().post(f"{API}/own-stock/{action}", json=REASON, headers=headers)
    why = "the bank migrates (by alice@example.com, request r-1)"
    assert (answer.status_code, answer.json) == (
        200,
        {"name": "own-stock", "from": "CLOSED", "to": state.value, "generation": 2, "reason": why},
    )
    assert stock(app).state is state
    (change,) = registry(app).ledger.history()
    assert (change.name, change.after, change.reason) == ("own-stock", state, why)


def test_operator_without_a_well_formed_name_is_the_api(client: FlaskClient, app: Flask) -> None:
    headers = {"X-Operator": "alice) forged (by bob", "X-Request-ID": "r-2"}
    client.post(f"{API}/own-stock/disable", json=REASON, headers=headers)
    assert registry(app).ledger.history()[-1].reason == "the bank migrates (by api, request r-2)"


def test_longest_reason_does_not_cut_off_who_it_was(client: FlaskClient, app: Flask) -> None:
    headers = {"X-Operator": "a" * 64, "X-Request-ID": "r" * 64}
    client.post(f"{API}/own-stock/disable", json={"reason": "ü" * 200}, headers=headers)
    assert registry(app).ledger.history()[-1].reason.endswith(f"ü (by {'a' * 64}, request {'r' * 64})")


@pytest.mark.parametrize(("expires_in", "seconds"), [("15m", 900), (900, 900), (1.5, 1.5)])
def test_hold_expires(client: FlaskClient, app: Flask, expires_in: object, seconds: float) -> None:
    answer = client.post(f"{API}/own-stock/force-open", json=REASON | {"expires_in": expires_in})
    assert answer.status_code == 200
    wait = stock(app).snapshot().retry_after
    assert wait is not None and seconds - 1.4 < wait <= seconds


def test_reset_empties_the_window(client: FlaskClient, app: Flask) -> None:
    client.post("/api/v1/simulate/failure", json={"is_healthy": False})
    for _ in range(3):
        client.get("/api/v1/stock/pen")
    assert stock(app).state is State.OPEN
    client.post(f"{API}/own-stock/reset", json=REASON)
    seen = stock(app).snapshot()
    assert (seen.state, seen.window.requests, seen.consecutive_failures) == (State.CLOSED, 0, 0)


@pytest.mark.parametrize("action", ["force-open", "reset"])
def test_unknown_breaker_is_not_found_and_not_made(client: FlaskClient, app: Flask, action: str) -> None:
    assert problem(client.post(f"{API}/bank/{action}", json=REASON)) == (404, "unknown-breaker")
    assert registry(app).ledger.names() == ["own-stock"]
    assert registry(app).find("bank") is None


def test_breaker_of_another_worker_is_found_and_keeps_its_thresholds(config: Path, tmp_path: Path) -> None:
    app = shop.create_app()
    other = Ledger.open("shm://shop", tmp_path / "state")
    url = CircuitBreaker("http://bank:80", ledger=other)
    before = url.config
    answer = app.test_client().post(f"{API}/http://bank:80/force-open", json=REASON)
    assert (answer.status_code, url.state) == (200, State.FORCED_OPEN)
    assert url.config == before != stock(app).config


@pytest.mark.parametrize(
    ("action", "body", "pointer"),
    [
        ("force-open", {}, "/reason"),
        ("force-open", {"reason": "  "}, "/reason"),
        ("force-open", {"reason": "a\nb"}, "/reason"),
        ("force-open", {"reason": "x" * 201}, "/reason"),
        ("force-open", {"reason": 7}, "/reason"),
        ("force-open", REASON | {"expires_in": "soon"}, "/expires_in"),
        ("force-open", REASON | {"expires_in": 0}, "/expires_in"),
        ("force-open", REASON | {"host_only": "yes"}, "/host_only"),
        ("force-open", REASON | {"until": "noon"}, "/until"),
        ("reset", REASON | {"expires_in": "15m"}, "/expires_in"),
    ],
)
def test_wrong_body_is_refused_and_changes_nothing(
    client: FlaskClient, app: Flask, action: str, body: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{API}/own-stock/{action}", json=body)
    assert problem(answer) == (422, "invalid-body")
    assert answer.json is not None
    assert answer.json["errors"][0]["pointer"] == pointer
    assert registry(app).ledger.history() == []


def test_invalid_command_is_refused(client: FlaskClient) -> None:
    assert problem(client.post(f"{API}/own-stock/force-open", data="{", content_type="application/json"))[0] == 400
    assert problem(client.post(f"{API}/own-stock/force-open", data="reason=x"))[0] == 415
    assert problem(client.post(f"{API}/own-stock/explode", json=REASON)) == (404, "not-found")
    answer = client.get(f"{API}/own-stock/force-open")
    assert (problem(answer)[0], set(answer.headers["Allow"].split(", "))) == (405, {"POST", "OPTIONS"})


def test_events_are_the_latest_transitions(client: FlaskClient) -> None:
    for action in ("force-open", "disable", "reset"):
        client.post(f"{API}/own-stock/{action}", json=REASON, headers={"X-Request-ID": "r"})

    def numbers(query: str) -> list[int]:
        answer = client.get(f"{API}/events{query}")
        assert answer.json is not None
        return [each["number"] for each in answer.json["events"]]

    assert [numbers(""), numbers("?since=1"), numbers("?limit=1"), numbers("?since=9")] == [[1, 2, 3], [2, 3], [3], []]
    answer = client.get(f"{API}/events?since=2")
    assert answer.json is not None
    (event,) = answer.json["events"]
    assert event.pop("at").endswith("Z")
    assert event == {
        "number": 3,
        "name": "own-stock",
        "from": "DISABLED",
        "to": "CLOSED",
        "generation": 4,
        "reason": "the bank migrates (by api, request r)",
    }


@pytest.mark.parametrize("query", ["since=-1", "since=x", "limit=201", "limit=1e2", "since=99999999999999999999"])
def test_wrong_query_is_refused(client: FlaskClient, query: str) -> None:
    assert problem(client.get(f"{API}/events?{query}")) == (422, "invalid-parameter")


def test_unavailable_lock_is_503_with_retry_after(client: FlaskClient, app: Flask) -> None:
    ledger = registry(app).ledger
    # As in a signal handler of the thread that holds the lock.
    answer = ledger.core.lock.run(lambda: client.post(f"{API}/own-stock/reset", json=REASON), 1)
    assert (problem(answer), answer.headers["Retry-After"]) == ((503, "ledger-busy"), "1")


def test_circuit_forced_open_through_one_worker_is_open_in_the_other(gunicorn: Service) -> None:
    url = f"{gunicorn.url}{API}/own-stock"
    headers = {"X-Operator": "alice", "X-Request-ID": "r-1"}
    answer = requests.post(f"{url}/force-open", json=REASON, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["to"]) == (200, "FORCED_OPEN")
    for refused in gunicorn.from_each_worker("/api/v1/stock/pen").values():
        assert (refused.status_code, refused.json()["code"]) == (503, "circuit-open")
    for log in gunicorn.from_each_worker(f"{API}/events").values():
        assert [each["reason"] for each in log.json()["events"]] == ["the bank migrates (by alice, request r-1)"]
    requests.post(f"{url}/reset", json={"reason": "done"}, timeout=5)
    assert {each.status_code for each in gunicorn.from_each_worker("/api/v1/stock/pen").values()} == {200}
    assert gunicorn.log.read_text().count("FORCED_OPEN -> CLOSED") == 1


def test_longest_reason_operator_and_request_id_are_taken_and_the_log_has_all_three(app: Flask) -> None:
    headers = {"X-Operator": "o" * 64, "X-Request-ID": "q" * 64}
    answer = app.test_client().post(f"{API}/own-stock/disable", json={"reason": "r" * 200}, headers=headers)
    assert answer.status_code == 200 and answer.json is not None
    why = answer.json["reason"]
    assert why.startswith("r" * 100) and why.endswith(f" (by {'o' * 64}, request {'q' * 64})")
    assert stock(app).ledger.history()[-1].reason == why
