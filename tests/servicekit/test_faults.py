from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from servicekit import Faults, SimulatedError, Simulation

SIMULATE = "/api/v1/simulate/failure"
WELL = {"failure_rate": 0.0, "is_healthy": True, "response_time_ms": 0}


def test_new_state_replaces_the_old_one_and_omitted_fields_are_reset(client: FlaskClient) -> None:
    assert client.get(SIMULATE).json == WELL
    state = {"failure_rate": 0.7, "is_healthy": True, "response_time_ms": 2000}
    assert client.post(SIMULATE, json=state).json == state
    assert client.get(SIMULATE).json == state
    assert client.post(SIMULATE, json={"failure_rate": 0.0, "is_healthy": True}).json == WELL
    assert client.get(SIMULATE).json == WELL


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"failure_rate": 1.1}, "failure_rate"),
        ({"failure_rate": -0.1}, "failure_rate"),
        ({"failure_rate": "0.5"}, "failure_rate"),
        ({"failure_rate": None}, "failure_rate"),
        ({"is_healthy": "false"}, "is_healthy"),
        ({"is_healthy": 0}, "is_healthy"),
        ({"response_time_ms": 60_001}, "response_time_ms"),
        ({"response_time_ms": 1.5}, "response_time_ms"),
        ({"delay": 1}, "delay"),
    ],
)
def test_wrong_state_is_refused_and_changes_nothing(client: FlaskClient, state: dict[str, Any], field: str) -> None:
    client.post(SIMULATE, json={"failure_rate": 0.5})
    answer = client.post(SIMULATE, json=state)
    assert answer.json is not None
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, f"/{field}")
    assert client.get(SIMULATE).json == WELL | {"failure_rate": 0.5}


def test_simulated_failure_is_a_503(client: FlaskClient) -> None:
    client.post(SIMULATE, json={"failure_rate": 1})
    answer = client.get("/api/v1/stock/pen")
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (503, "simulated-failure")
    assert "Retry-After" not in answer.headers


def test_faults_fail_at_their_rate(app: Flask) -> None:
    faults = app.extensions["faults"]
    faults.set(Simulation(failure_rate=0.7))
    failed = 0
    for _ in range(400):
        try:
            faults.apply()
        except SimulatedError:
            failed += 1
    assert 200 < failed < 360


def test_slowness_comes_before_the_failure(app: Flask) -> None:
    slept: list[float] = []
    slow = Faults(app, "bank", "/api/v1/bank", sleep=slept.append)
    slow.set(Simulation(is_healthy=False, response_time_ms=2000))
    with pytest.raises(SimulatedError):
        slow.apply()
    assert slept == [2.0]


def test_each_simulated_service_has_a_state_of_its_own(app: Flask) -> None:
    Faults(app, "bank", "/api/v1/bank", sleep=print)
    client = app.test_client()
    client.post("/api/v1/bank/simulate/failure", json={"is_healthy": False})
    assert client.get(SIMULATE).json == WELL


def test_health_check_reports_the_simulation(app: Flask) -> None:
    faults = app.extensions["faults"]
    assert faults.check()["status"] == "UP"
    faults.set(Simulation(failure_rate=0.5))
    assert faults.check()["status"] == "DEGRADED"
    faults.set(Simulation(is_healthy=False))
    assert faults.check()["status"] == "DOWN"


def test_response_time_above_the_callers_timeout_is_a_timeout_after_that_time(app: Flask) -> None:
    slept: list[float] = []
    faults = Faults(app, "risk", "/api/v1/risk", sleep=slept.append)
    faults.set(Simulation(response_time_ms=60_000))

    with pytest.raises(SimulatedError, match="no answer within 3 s"):
        faults.apply(3)

    assert slept == [3]


def test_response_time_within_the_callers_timeout_is_waited_for(app: Flask) -> None:
    slept: list[float] = []
    faults = Faults(app, "risk", "/api/v1/risk", sleep=slept.append)
    faults.set(Simulation(response_time_ms=2_000))

    faults.apply(3)

    assert slept == [2]
