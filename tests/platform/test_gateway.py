"""Responses and stored trades of the gateway when market data and portfolio misbehave."""

import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support import misbehaving
from tests.support.misbehaving import Act, Server, answer

ORDER = {"userId": "ann", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150"}


def trade(client: FlaskClient) -> Any:
    return client.post("/api/v1/trades", json=ORDER, headers={"X-Request-ID": "request-1"})


def states(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    try:
        return [state for (state,) in connection.execute("SELECT state FROM trades")]
    finally:
        connection.close()


def sent_trade_id(portfolio: Server) -> str:
    (request,) = portfolio.requests
    sent: dict[str, Any] = json.loads(request.partition("\r\n\r\n")[2])
    return str(sent["tradeId"])


def verdict(portfolio: Server, status: int, members: dict[str, object]) -> Act:
    """Respond with these members and the trade id of the request."""

    def act(connection: socket.socket) -> None:
        answer(status, json.dumps({"tradeId": sent_trade_id(portfolio), **members}))(connection)

    return act


def filled(portfolio: Server) -> Act:
    return verdict(portfolio, 201, {"status": "FILLED"})


def test_trade_is_marked_as_being_applied_before_it_is_sent(client: FlaskClient, portfolio: Server, file: Path) -> None:
    seen: list[str] = []

    def look(connection: socket.socket) -> None:
        seen.extend(states(file))
        filled(portfolio)(connection)

    portfolio.act = look

    assert trade(client).status_code == 201
    assert seen == ["APPLYING"]
    assert states(file) == ["FILLED"]


def test_request_id_is_passed_on_to_both_services(client: FlaskClient, market_data: Server, portfolio: Server) -> None:
    portfolio.act = filled(portfolio)

    trade(client)

    for server in (market_data, portfolio):
        assert "X-Request-ID: request-1" in server.requests[0]


def test_rejection_is_returned_with_its_reason_and_stored(client: FlaskClient, portfolio: Server) -> None:
    members: dict[str, object] = {
        "status": 409,
        "tradeStatus": "REJECTED",
        "code": "insufficient-funds",
        "detail": "no money",
    }
    portfolio.act = verdict(portfolio, 409, members)

    told = trade(client)

    assert (told.status_code, told.json["code"], told.json["detail"]) == (409, "insufficient-funds", "no money")
    kept = client.get(f"/api/v1/trades/{told.json['tradeId']}").json
    assert (kept["status"], kept["code"], kept["detail"]) == ("REJECTED", "insufficient-funds", "no money")


UNKNOWN = {
    "silent": misbehaving.stay_silent,
    "hang-up": misbehaving.hang_up,
    "half": misbehaving.send_half,
    "half-chunked": misbehaving.send_half_chunked,
    "no-http": misbehaving.send_no_http,
    "bad-gzip": misbehaving.send_bad_gzip,
    "500": answer(500, "{}"),
    "503": answer(503, '{"code": "simulated-failure"}'),
    "429": answer(429, "{}"),
    "empty": answer(200, ""),
    "no-object": answer(201, "[]"),
    "no-verdict": answer(201, "{}"),
    "other-trade": answer(201, '{"tradeId": "other", "status": "FILLED"}'),
    "conflict-of-another-kind": answer(409, '{"code": "conflict"}'),
    "rejection-of-another-trade": answer(
        409, '{"tradeId": "other", "tradeStatus": "REJECTED", "code": "a", "detail": "b"}'
    ),
    "not-found": answer(404, "<html>"),
    "redirect": answer(302, "", "Location: http://127.0.0.1:1/"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_trade_without_a_valid_response_is_pending(
    client: FlaskClient, portfolio: Server, file: Path, name: str
) -> None:
    portfolio.act = UNKNOWN[name]

    told = trade(client)

    assert (told.status_code, told.json["status"]) == (202, "PENDING")
    assert told.headers["Location"] == f"/api/v1/trades/{told.json['tradeId']}"
    assert client.get(told.headers["Location"]).json == told.json
    assert told.json["tradeId"] == sent_trade_id(portfolio)
    assert states(file) == ["APPLYING"]


def test_trade_that_never_reached_the_portfolio_is_refused(client: FlaskClient, portfolio: Server, file: Path) -> None:
    portfolio.close()

    told = trade(client)

    assert (told.status_code, told.json["dependency"], told.headers["Retry-After"]) == (503, "portfolio", "1")
    assert states(file) == ["REFUSED"]


@pytest.mark.parametrize(
    "act",
    [
        misbehaving.hang_up,
        answer(500, "{}"),
        answer(200, "{}"),
        answer(200, '{"symbol": "AAPL", "price": "NaN", "time": "now"}'),
        answer(200, '{"symbol": "AAPL", "price": 1e99999999, "time": "now"}'),
        answer(200, '{"symbol": "AAPL", "price": "-1", "time": "now"}'),
        answer(200, '{"symbol": "MSFT", "price": "150", "time": "now"}'),
        answer(400, "{}"),
    ],
    ids=["hang-up", "500", "nothing", "nan", "bomb", "negative", "other-symbol", "400"],
)
def test_trade_without_a_valid_price_is_refused_and_not_stored(
    client: FlaskClient, market_data: Server, portfolio: Server, file: Path, act: Act
) -> None:
    market_data.act = act

    told = trade(client)

    assert (told.status_code, told.json["dependency"], told.headers["Retry-After"]) == (503, "market-data", "1")
    assert not portfolio.requests and not states(file)


def test_trade_that_cannot_be_stored_is_refused_before_anything_is_sent(
    client: FlaskClient, portfolio: Server, file: Path
) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE trades")
    connection.close()

    told = trade(client)

    assert (told.status_code, told.json["code"], told.headers["Retry-After"]) == (503, "database-unavailable", "1")
    assert not portfolio.requests
    assert client.get("/api/v1/health/ready").status_code == 503


def test_trade_whose_outcome_cannot_be_stored_is_pending(client: FlaskClient, portfolio: Server, file: Path) -> None:
    def fill_and_break(connection: socket.socket) -> None:
        with sqlite3.connect(file) as database:
            database.execute("CREATE TRIGGER broken BEFORE UPDATE ON trades BEGIN SELECT RAISE(FAIL, 'broken'); END")
        database.close()
        filled(portfolio)(connection)

    portfolio.act = fill_and_break

    told = trade(client)

    assert (told.status_code, told.json["status"]) == (202, "PENDING")


def test_stale_fresh_and_unknown_responses_differ(client: FlaskClient, market_data: Server) -> None:
    fresh = client.get("/api/v1/market-data/AAPL").json
    market_data.act = answer(503, "{}")
    stale = client.get("/api/v1/market-data/AAPL").json
    market_data.act = answer(404, "{}")
    unknown = client.get("/api/v1/market-data/AAPL")

    assert (fresh["stale"], stale["stale"], unknown.status_code) == (False, True, 404)
    assert stale["price"] == fresh["price"] == "150.10"
    assert stale["ageSeconds"] >= 0


def test_audit_log_is_verified_once_at_a_time(app: Flask, client: FlaskClient) -> None:
    exclusive = app.extensions["history"].verification
    busy = exclusive.run(lambda: client.get("/api/v1/audit/verify"))

    assert (busy.status_code, busy.json["code"], busy.headers["Retry-After"]) == (429, "audit-being-verified", "1")
    assert client.get("/api/v1/audit/verify").json["valid"] is True
