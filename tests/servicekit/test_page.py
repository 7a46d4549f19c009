"""Data of the live page of a service: its status, its health, and its simulated failures."""

import re

from flask import Flask
from flask.testing import FlaskClient

from servicekit import Simulation


def test_data_includes_the_status_and_is_not_cached(app: Flask, client: FlaskClient) -> None:
    app.extensions["faults"].set(Simulation(is_healthy=False))
    for _ in range(4):
        client.get("/api/v1/stock/pen")
    answer = client.get("/dashboard/data")
    assert answer.headers["Cache-Control"] == "no-store"
    seen = answer.json
    assert seen is not None
    status = client.get("/api/v1/circuit-breaker/status").json
    assert status is not None
    assert {"service", "scope", "workers", "time", "breakers"} <= seen.keys() & status.keys()
    assert (seen["service"], seen["operator"]) == ("corner-shop", True)
    assert seen["breakers"]["own-stock"]["state"] == "OPEN"
    assert seen["breakers"]["own-stock"].keys() == status["breakers"]["own-stock"].keys()
    assert seen["health"] == {"own-stock": {"status": "DOWN", "circuit": "OPEN"}}
    [event] = seen["events"]
    assert (event["number"], event["name"], event["from"], event["to"]) == (1, "own-stock", "CLOSED", "OPEN")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["at"])
    assert seen["simulators"]["shop"] == {
        "path": "/api/v1/simulate/failure",
        "failure_rate": 0.0,
        "is_healthy": False,
        "response_time_ms": 0,
    }
    assert "trades" not in seen
