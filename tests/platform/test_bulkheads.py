"""The bulkheads of the services and the breaker of their databases."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cb import Bulkhead, BulkheadFullError, CircuitBreaker, Registry
from gateway import create_app
from servicekit import SettingsError
from tests.platform.conftest import Platform
from tests.platform.test_gateway import filled, states, trade
from tests.support.misbehaving import Server
from tests.support.waiting import until


def breaker(app: Flask, name: str) -> CircuitBreaker:
    registry: Registry = app.extensions["circuit_breakers"].registry
    return registry.get(name)


@contextmanager
def full(app: Flask, name: str) -> Iterator[None]:
    """Fill the bulkhead of a dependency."""
    limit = breaker(app, name).snapshot().limit
    assert limit
    bulkhead, calls = Bulkhead(breaker(app, name), limit), []
    with pytest.raises(BulkheadFullError):
        while True:
            calls.append(bulkhead.begin())
    assert len(calls) == limit
    yield
    for call in calls:
        call.discard()


def components(client: FlaskClient, path: str = "") -> tuple[int, Any]:
    health = client.get(f"/api/v1/health{path}")
    assert health.json
    return health.status_code, health.json["components"]["database"]


def test_trade_while_the_circuit_of_the_database_is_open_is_refused_and_sends_nothing(
    app: Flask, client: FlaskClient, portfolio: Server
) -> None:
    breaker(app, "database").control.force_open(reason="test")

    refused = trade(client)

    assert (refused.status_code, refused.json["code"]) == (503, "database-unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert portfolio.requests == []
    assert components(client)[1]["reason"].startswith("circuit 'database' rejects calls")
    assert [components(client, path)[0] for path in ("", "/ready")] == [503, 503]
    breaker(app, "database").control.reset(reason="test")
    assert components(client) == (200, {"status": "UP", "circuit": "CLOSED"})


def test_trade_whose_outcome_meets_an_open_database_circuit_is_pending_and_not_refused(
    app: Flask, client: FlaskClient, portfolio: Server, file: Path
) -> None:
    verdict = filled(portfolio)

    def book_and_lose_the_database(connection: Any) -> None:
        breaker(app, "database").control.force_open(reason="test")
        verdict(connection)

    portfolio.act = book_and_lose_the_database

    assert trade(client).status_code == 202
    assert states(file) == ["APPLYING"]


def test_database_at_its_limit_refuses_trades_and_leaves_the_service_ready(app: Flask, client: FlaskClient) -> None:
    with full(app, "database"):
        assert (trade(client).status_code, trade(client).json["code"]) == (503, "database-unavailable")
        status, database = components(client)
        assert (status, database["status"], components(client, "/ready")[0]) == (200, "DEGRADED", 200)


def test_trade_at_the_limit_of_the_portfolio_is_429_and_was_not_sent(
    app: Flask, client: FlaskClient, portfolio: Server, file: Path
) -> None:
    with full(app, "portfolio"):
        refused = trade(client)

    assert (refused.status_code, refused.json["code"], refused.json["breaker"]) == (429, "bulkhead-full", "portfolio")
    assert refused.headers["Retry-After"] == "1"
    assert (portfolio.requests, states(file)) == ([], ["REFUSED"])


def test_read_at_the_limit_of_market_data_returns_the_last_good_response(app: Flask, client: FlaskClient) -> None:
    assert client.get("/api/v1/market-data/AAPL").status_code == 200
    with full(app, "market-data"):
        stale = client.get("/api/v1/market-data/AAPL")
        assert (stale.status_code, stale.json and stale.json["stale"]) == (200, True)
        assert client.get("/api/v1/market-data/MSFT").status_code == 429


def test_bulkheads_share_the_threads_of_all_workers_and_reserve_some(app: Flask) -> None:
    assert [breaker(app, name).snapshot().limit for name in ("market-data", "portfolio", "database")] == [9, 9, 9]


def test_limits_that_leave_no_thread_are_refused_at_the_start(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CB_SERVICES__GATEWAY__PORTFOLIO_LIMIT", "27")
    create_app()
    monkeypatch.setenv("CB_SERVICES__GATEWAY__PORTFOLIO_LIMIT", "28")
    with pytest.raises(SettingsError) as caught:
        create_app()
    assert caught.value.key == "services.gateway.portfolio_limit"
    assert caught.value.rule == "leave 3 of 32 threads (server.workers x server.threads) beside all limits together"


def test_health_responds_while_a_bulkhead_is_full_and_a_further_call_is_429(platform: Platform) -> None:
    def seen() -> Any:
        return platform.get("gateway", "/api/v1/circuit-breaker/status").json()["breakers"]["market-data"]

    platform.simulate("market-data", response_time_ms=1800)
    with ThreadPoolExecutor(12) as pool:
        symbols = [f"S{number}" for number in range(12)]
        asked = [pool.submit(platform.get, "gateway", f"/api/v1/market-data/{symbol}") for symbol in symbols]
        until(lambda: seen()["in_flight"] == seen()["limit"] == 9, "the bulkhead is full")
        begin = time.monotonic()
        assert platform.get("gateway", "/api/v1/health").status_code == 200
        assert time.monotonic() - begin < 0.5
        statuses = sorted(each.result().status_code for each in asked)
    assert statuses == [404] * 9 + [429] * 3
    assert seen()["totals"]["full"] >= 3
