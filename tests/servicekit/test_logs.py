import json
import logging
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cb.health_probes import HealthProbes
from servicekit import Simulation
from servicekit.logs import JSONFormatter

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    # The apps of earlier tests may still notice that their directories were removed.
    return [line for line in found if line["logger"] != "cb.ledger.degradation"]


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


def test_polled_paths_are_not_logged(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
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
    (line,) = [line for line in lines(capsys) if line["logger"] == "cb.circuits"]
    assert line["message"].startswith(
        "circuit own-stock: CLOSED -> OPEN: 3 consecutive failures; 3 calls in 60 s, 3 failed"
    )
    assert line["window"] == {"seconds": 60, "requests": 3, "failures": 3, "slow": 0, "failure_rate": 1.0}
    assert (line["breaker"], line["from"], line["to"], line["generation"]) == ("own-stock", "CLOSED", "OPEN", 2)
    assert (line["request_id"], line["level"]) == ("call-2", "WARNING")
    assert line["reason"]


def test_line_cannot_be_forged(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.get("/a%0d%0a{%22level%22:%22INFO%22}")
    (line,) = lines(capsys)
    assert line["path"] == '/a\r\n{"level":"INFO"}'


HOSTILE = 'a\r\n{"level":"INFO"}\x1b[2J\x9b31m\u2028\u2029\x85\x00'


def test_hostile_text_is_one_printable_line_wherever_it_comes_from(
    app: Flask, capsys: pytest.CaptureFixture[str]
) -> None:
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    client = app.test_client()
    client.get("/" + quote(HOSTILE))
    client.get(
        "/api/v1/stock/pen",
        headers={"X-Request-ID": "a\x1b[2J", "X-Operator": "a\x9bb", "traceparent": "\x1b" + TRACE},
    )
    HealthProbes(stock).note(OSError(HOSTILE), took=0.1, valid=15)
    stock.control.reset(reason=HOSTILE, author="al\x1b[2Jice\n{}")
    logging.getLogger(HOSTILE).error(HOSTILE, extra={"facts": {HOSTILE: HOSTILE}})
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("x").exception("%s", HOSTILE)
    text = capsys.readouterr().err
    assert text.replace("\n", "").isprintable() and text.isascii()
    assert [json.loads(line)["level"] for line in text.splitlines()] == [
        *("INFO", "INFO", "WARNING", "INFO", "ERROR", "ERROR")
    ]
    assert len(text.splitlines()) == text.count("\n")


def test_line_that_cannot_be_made_is_a_line_all_the_same(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    # Made here: the handlers of pytest, which come first, take neither.
    for said, made in (("%d of %s", "%d of %s (TypeError: its arguments do not fit)"), ("\ud800 %s %s", None)):
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, said, ("three", "\udfff"), None)
        line = JSONFormatter().format(record)
        assert json.loads(line)["message"] == (made or "\ud800 three \udfff")
        assert line.isascii()
    logging.getLogger("x").error("said", extra={"facts": {"what": Mute()}})
    logging.getLogger("x").error("%s", "long" * 10_000)
    mute, long = lines(capsys)
    assert mute["what"] == "Mute (RuntimeError: it cannot be shown)"
    assert len(long["message"]) == 10_000


@pytest.mark.parametrize(
    ("received", "told"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        ("", None),
        (None, None),
    ],
)
def test_lines_of_a_request_have_the_id_of_the_trace_that_it_came_with(
    app: Flask, capsys: pytest.CaptureFixture[str], received: str | None, told: str | None
) -> None:
    app.extensions["faults"].set(Simulation(is_healthy=False))
    client = app.test_client()
    for _ in range(3):
        client.get("/api/v1/stock/pen", headers={} if received is None else {"traceparent": received})
    client.get("/api/v1/bug", headers={} if received is None else {"traceparent": received})
    found = lines(capsys)
    assert {"servicekit.access", "cb.circuits", "servicekit.problems"} == {line["logger"] for line in found}
    assert {line.get("trace_id") for line in found} == {told}


def test_refused_input_leaves_no_traceback(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.post("/api/v1/orders", data="[" * 30_000, content_type="application/json")
    client.post("/api/v1/orders", json={"quantity": 0})
    client.open("/api/v1/orders", method="BREW")
    assert [line for line in lines(capsys) if "exception" in line or line["level"] != "INFO"] == []


def test_line_outside_of_a_request_has_no_request_id(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("anything").info("hello %s", "you")
    (line,) = lines(capsys)
    assert line["message"] == "hello you"
    assert "request_id" not in line and "trace_id" not in line


def test_change_of_health_is_one_line_with_its_reason(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    stock = app.extensions["circuit_breakers"].registry.get("own-stock")
    for error in (OSError("no route"), OSError("no route"), None):
        HealthProbes(stock).note(error, took=0.1, valid=15)
    down, up = lines(capsys)
    assert (down["message"], down["level"]) == ("health of own-stock: DOWN: OSError: no route", "WARNING")
    assert (down["breaker"], down["health"], down["reason"]) == ("own-stock", "DOWN", "OSError: no route")
    assert (up["message"], up["level"]) == ("health of own-stock: UP", "INFO")
