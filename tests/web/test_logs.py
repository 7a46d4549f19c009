import json
import logging
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cb.web import Simulation


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_request_is_a_line_with_its_id(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.get("/api/v1/stock/pen?token=secret", headers={"X-Request-ID": "mine"})
    (line,) = lines(capsys)
    assert (line["request_id"], line["method"], line["path"], line["status"]) == (
        "mine",
        "GET",
        "/api/v1/stock/pen",
        200,
    )
    assert line["duration_ms"] >= 0
    assert "secret" not in str(line)


def test_what_is_polled_is_not_logged(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (
        "/metrics",
        "/dashboard/data",
        "/api/v1/health",
        "/api/v1/health/live",
        "/api/v1/circuit-breaker/status",
    ):
        client.get(path)
    assert lines(capsys) == []


def test_change_of_state_is_one_line_with_the_id_of_its_request(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    app.extensions["faults"].set(Simulation(is_healthy=False))
    client = app.test_client()
    for number in range(5):
        client.get("/api/v1/stock/pen", headers={"X-Request-ID": f"call-{number}"})
    (line,) = [line for line in lines(capsys) if line["logger"] == "cb.web.circuits"]
    assert line["message"] == "circuit own-stock: CLOSED -> OPEN"
    assert (line["breaker"], line["from"], line["to"], line["generation"]) == ("own-stock", "CLOSED", "OPEN", 2)
    assert (line["request_id"], line["level"]) == ("call-2", "WARNING")
    assert line["reason"]


def test_line_cannot_be_forged(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.get("/a%0d%0a{%22level%22:%22INFO%22}")
    (line,) = lines(capsys)
    assert line["path"] == '/a\r\n{"level":"INFO"}'


def test_refused_input_leaves_no_traceback(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.post("/api/v1/orders", data="[" * 30_000, content_type="application/json")
    client.post("/api/v1/orders", json={"quantity": 0})
    client.open("/api/v1/orders", method="BREW")
    assert [line for line in lines(capsys) if "exception" in line or line["level"] != "INFO"] == []


def test_line_outside_of_a_request_has_no_request_id(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("anything").info("hello %s", "you")
    (line,) = lines(capsys)
    assert line["message"] == "hello you"
    assert "request_id" not in line


def test_change_of_health_is_one_line_with_its_reason(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    for error in (OSError("no route"), OSError("no route"), None):
        stock.note_health(error, took=0.1, valid=15)
    down, up = lines(capsys)
    assert (down["message"], down["level"]) == ("health of own-stock: DOWN", "WARNING")
    assert (down["breaker"], down["health"], down["reason"]) == ("own-stock", "DOWN", "OSError: no route")
    assert (up["message"], up["level"]) == ("health of own-stock: UP", "INFO")
