import json
from typing import NoReturn

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cb import BulkheadFullError, CircuitOpenError
from servicekit import Problem


def test_unknown_path_is_a_problem(client: FlaskClient) -> None:
    answer = client.get("/api/v1/nothing")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert answer.json == {
        "type": "/problems/not-found",
        "title": "Not found",
        "status": 404,
        "detail": "there is nothing at /api/v1/nothing",
        "code": "not-found",
        "request_id": answer.headers["X-Request-ID"],
    }


def test_method_that_a_path_lacks_is_refused_with_those_it_has(client: FlaskClient) -> None:
    answer = client.delete("/api/v1/orders")
    assert (answer.status_code, answer.mimetype) == (405, "application/problem+json")
    assert {method.strip() for method in answer.headers["Allow"].split(",")} == {"OPTIONS", "POST"}


@pytest.mark.parametrize("method", ["BREW", "get", "TRACE", "CONNECT"])
def test_unknown_method_is_refused(client: FlaskClient, method: str) -> None:
    answer = client.open("/api/v1/orders", method=method, headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.mimetype) == (405, "application/problem+json")
    assert "POST" in answer.headers["Allow"]
    assert answer.json is not None
    assert answer.json["request_id"] == answer.headers["X-Request-ID"] == "mine"


@pytest.mark.parametrize("item", ["..", "a%20b", "a%0d%0ab", "%C3%A4", "a" * 65, "a%00"])
def test_malformed_id_is_refused_by_name_and_rule(client: FlaskClient, item: str) -> None:
    answer = client.get(f"/api/v1/stock/{item}")
    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (422, "invalid-parameter")
    rule = "must be 1 to 64 letters, digits, _ or -"
    assert answer.json["errors"] == [{"in": "path", "name": "item", "detail": rule}]


def test_unexpected_error_is_logged_and_not_disclosed(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    answer = client.get("/api/v1/bug")
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert "for us alone" not in answer.text
    logged = [line for line in map(json.loads, capsys.readouterr().err.splitlines()) if line["level"] == "ERROR"]
    assert len(logged) == 1
    assert "RuntimeError: for us alone" in logged[0]["exception"]
    assert answer.json is not None
    assert logged[0]["request_id"] == answer.json["request_id"]


@pytest.mark.parametrize(("retry_after", "told"), [(0.0, "1"), (0.2, "1"), (29.1, "30"), (None, "60")])
def test_open_circuit_is_503_with_retry_after(app: Flask, retry_after: float | None, told: str) -> None:
    @app.get("/open")
    def refuse() -> NoReturn:
        raise CircuitOpenError("own-stock", retry_after)

    answer = app.test_client().get("/open")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, told)
    assert answer.json is not None
    assert (answer.json["code"], answer.json["breaker"]) == ("circuit-open", "own-stock")


def test_full_bulkhead_is_429_with_retry_after(app: Flask) -> None:
    @app.get("/full")
    def refuse() -> NoReturn:
        raise BulkheadFullError("own-stock", 7)

    answer = app.test_client().get("/full")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json is not None
    assert (answer.json["code"], answer.json["breaker"], answer.json["limit"]) == ("bulkhead-full", "own-stock", 7)


def test_facts_and_headers_of_a_problem_are_in_its_answer(app: Flask) -> None:
    @app.get("/poor")
    def refuse() -> NoReturn:
        raise Problem(409, "insufficient-funds", "it costs 5", headers={"Retry-After": "1"}, needed="5.00")

    answer = app.test_client().get("/poor")
    assert answer.json is not None
    assert (answer.json["title"], answer.json["needed"]) == ("Insufficient funds", "5.00")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", ["/api/v1/health", "/metrics", "/api/v1/nothing", "/api/v1/bug"])
def test_every_response_has_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
