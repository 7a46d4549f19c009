import re
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from servicekit import Simulation
from tests.support import shop

STATUS = "/api/v1/circuit-breaker/status"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def test_closed_circuit_is_described(client: FlaskClient) -> None:
    client.get("/api/v1/stock/pen")
    seen = client.get(STATUS).json
    assert seen is not None
    breaker = seen["breakers"].pop("own-stock")
    assert _TIME.fullmatch(seen.pop("time"))
    assert len(seen.pop("programs")) == 1
    assert seen == {"service": "corner-shop", "scope": "host", "workers": 1, "breakers": {}}
    assert _TIME.fullmatch(breaker.pop("since"))
    assert breaker.pop("latency_ms").keys() == {"p50", "p95", "p99"}
    config, why = breaker.pop("config"), breaker.pop("why")
    assert (config["timeout"], config["success_threshold"]) == (20.0, 1)
    assert why.startswith("closed: 1 of 100 calls")
    assert breaker == {
        "state": "CLOSED",
        "source": "host",
        "generation": 1,
        "retry_after_seconds": None,
        "window": {
            "seconds": 60.0,
            "requests": 1,
            "failures": 0,
            "slow": 0,
            "failure_rate": 0.0,
            "slow_call_rate": 0.0,
        },
        "totals": {
            "requests": 1,
            "successes": 1,
            "failures": 0,
            "slow": 0,
            "rejected": 0,
            "full": 0,
            "neutral": 0,
            "late": 0,
        },
        "consecutive_failures": 0,
        "in_flight": 0,
        "limit": None,
        "last_failure": None,
    }


def test_open_circuit_has_the_time_of_the_next_probe_and_the_last_failure(app: Flask) -> None:
    client = app.test_client()
    app.extensions["faults"].set(Simulation(is_healthy=False))
    answers = [client.get("/api/v1/stock/pen") for _ in range(4)]
    assert [answer.json and answer.json["code"] for answer in answers] == ["simulated-failure"] * 3 + ["circuit-open"]
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 20
    seen = client.get(STATUS).json
    assert seen is not None
    breaker = seen["breakers"]["own-stock"]
    assert (breaker["state"], breaker["generation"]) == ("OPEN", 2)
    assert 0 < breaker["retry_after_seconds"] <= 20
    assert breaker["last_failure"]["type"] == "SimulatedError"
    assert _TIME.fullmatch(breaker["last_failure"]["at"])
    assert (breaker["totals"]["failures"], breaker["totals"]["rejected"]) == (3, 1)


def test_reading_the_status_changes_nothing(client: FlaskClient) -> None:
    first, second = client.get(STATUS).json, client.get(STATUS).json
    assert first is not None
    assert second is not None
    assert first["breakers"]["own-stock"]["totals"] == second["breakers"]["own-stock"]["totals"]


def test_reading_the_status_creates_no_breaker(client: FlaskClient) -> None:
    assert client.get(STATUS + "/nobody").status_code == 404
    seen = client.get(STATUS).json
    assert seen is not None
    assert list(seen["breakers"]) == ["own-stock"]


def test_status_has_the_reason_while_breakers_are_not_shared(config: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "state" / "shop.v3.ledger"
    blocker.mkdir(parents=True)
    app = shop.create_app()
    client = app.test_client()
    client.get("/api/v1/stock/pen")
    seen = client.get(STATUS).json
    assert seen is not None
    assert (seen["scope"], seen["breakers"]["own-stock"]["source"]) == ("process", "process")
    assert "cannot be opened" in seen["degraded"]
    blocker.rmdir()
    registry = app.extensions["circuit_breakers"].registry
    registry.ledger.core.retry_open(1 << 62)
    registry.get("own-stock").control.evaluate()
    seen = client.get(STATUS).json
    assert seen is not None
    assert (seen["scope"], seen["breakers"]["own-stock"]["source"]) == ("host", "host")
    assert "degraded" not in seen
