from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cb.health_probes import HealthProbes
from servicekit import Simulation


def answering(status: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"status": status, "detail": "x"}


def broken() -> dict[str, Any]:
    raise OSError("disk")


def test_service_without_trouble_is_up(client: FlaskClient) -> None:
    answer = client.get("/api/v1/health")
    assert answer.json is not None
    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["service"]) == ("UP", "corner-shop")
    assert answer.json["components"] == {"own-stock": {"status": "UP", "circuit": "CLOSED"}}


@pytest.mark.parametrize("check", [answering("DOWN"), answering("DEGRADED"), broken])
def test_service_is_degraded_by_a_dependency_and_still_ready(app: Flask, check: Callable[[], dict[str, Any]]) -> None:
    app.extensions["health"].add("bank", check)
    client = app.test_client()
    answer = client.get("/api/v1/health")
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (200, "DEGRADED")
    ready = client.get("/api/v1/health/ready")
    assert ready.json is not None
    assert (ready.status_code, ready.json["status"], ready.json["components"]) == (200, "UP", {})


@pytest.mark.parametrize("check", [answering("DOWN"), broken])
def test_service_is_down_without_a_required_component(app: Flask, check: Callable[[], dict[str, Any]]) -> None:
    app.extensions["health"].add("database", check, ready=True)
    client = app.test_client()
    answer = client.get("/api/v1/health")
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (503, "DOWN")
    assert answer.json["components"]["database"]["status"] == "DOWN"
    assert client.get("/api/v1/health/ready").status_code == 503
    assert client.get("/api/v1/health/live").status_code == 200


def test_open_circuit_degrades_a_service_that_stays_ready(app: Flask) -> None:
    client = app.test_client()
    app.extensions["faults"].set(Simulation(is_healthy=False))
    for _ in range(3):
        client.get("/api/v1/stock/pen")
    answer = client.get("/api/v1/health")
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (200, "DEGRADED")
    assert answer.json["components"]["own-stock"] == {"status": "DOWN", "circuit": "OPEN"}
    ready = client.get("/api/v1/health/ready")
    assert ready.json is not None
    assert (ready.status_code, ready.json["components"]) == (200, {})


def test_failed_check_of_a_monitor_makes_a_dependency_down_with_a_closed_circuit(app: Flask) -> None:
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    seen = []
    for error in (None, OSError("no route")):
        HealthProbes(stock).note(error, took=0.1, valid=15)
        answer = app.test_client().get("/api/v1/health").json
        assert answer is not None
        seen.append((answer["status"], answer["components"]["own-stock"]))
    up = {"status": "UP", "circuit": "CLOSED", "health": "UP", "checked_seconds_ago": 0.0}
    assert seen == [("UP", up), ("DEGRADED", up | {"status": "DOWN", "health": "DOWN"})]


def test_overdue_check_makes_the_health_unknown(app: Flask) -> None:
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    HealthProbes(stock).note(OSError("no route"), took=0.1, valid=0)
    answer = app.test_client().get("/api/v1/health").json
    assert answer is not None
    seen = answer["components"]["own-stock"]
    assert (answer["status"], seen["status"], seen["health"]) == ("UP", "UP", "UNKNOWN")


def test_well_dependency_with_an_open_circuit_is_down(app: Flask) -> None:
    client = app.test_client()
    HealthProbes(app.extensions["circuit_breakers"].registry.get("own-stock")).note(None, took=0.1, valid=15)
    app.extensions["faults"].set(Simulation(is_healthy=False))
    for _ in range(3):
        client.get("/api/v1/stock/pen")
    answer = client.get("/api/v1/health").json
    assert answer is not None
    seen = answer["components"]["own-stock"]
    assert (seen["status"], seen["circuit"], seen["health"]) == ("DOWN", "OPEN", "UP")
