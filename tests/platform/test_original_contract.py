"""Every request of the platform's original contract, sent to the running services."""

import re

import pytest

from tests.platform.conftest import Platform
from tests.support.waiting import until


def test_trade_is_filled_and_can_be_found_again(platform: Platform) -> None:
    answer = platform.trade(quantity=10)

    assert answer.status_code == 201
    trade = answer.json()
    assert {name: trade[name] for name in ("status", "userId", "symbol", "quantity", "orderType", "price")} == {
        "status": "FILLED",
        "userId": "user123",
        "symbol": "AAPL",
        "quantity": 10,
        "orderType": "BUY",
        "price": "150.00",
    }
    assert platform.get("gateway", answer.headers["Location"]).json() == trade


def test_portfolio_of_the_first_user_exists_from_the_start_and_follows_trades(platform: Platform) -> None:
    before = platform.get("gateway", "/api/v1/portfolio/user123").json()
    platform.trade(quantity=2)
    platform.trade(quantity=1, orderType="SELL")

    after = platform.get("gateway", "/api/v1/portfolio/user123")

    assert after.status_code == 200
    assert (after.json()["userId"], after.json()["stale"]) == ("user123", False)
    assert float(before["cash"]) - float(after.json()["cash"]) == 150
    held = {position["symbol"]: position["quantity"] for position in before["positions"]}
    assert after.json()["positions"] == [{"symbol": "AAPL", "quantity": held.get("AAPL", 0) + 1}]


def test_market_data_gives_a_price_near_the_base(platform: Platform) -> None:
    answer = platform.get("gateway", "/api/v1/market-data/AAPL")

    assert answer.status_code == 200
    quote = answer.json()
    assert (quote["symbol"], quote["stale"]) == ("AAPL", False)
    assert 148.5 <= float(quote["price"]) <= 151.5


def test_status_shows_a_closed_breaker_for_each_dependency(platform: Platform) -> None:
    status = platform.get("gateway", "/api/v1/circuit-breaker/status").json()

    assert status["service"] == "trading-gateway"
    assert list(status["breakers"]) == ["audit", "database", "market-data", "notification", "portfolio", "risk"]
    assert {breaker["state"] for breaker in status["breakers"].values()} == {"CLOSED"}


@pytest.mark.parametrize("service", ["gateway", "portfolio", "market-data"])
def test_health_is_up(platform: Platform, service: str) -> None:
    answer = platform.get(service, "/api/v1/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "UP")


def test_metrics_of_the_readme_are_exported(platform: Platform) -> None:
    platform.trade()

    metrics = platform.get("gateway", "/metrics").text

    for name in ("requests_total", "failures_total", "state_changes_total", "state", "request_duration_seconds"):
        assert re.search(rf"^circuit_breaker_{name}_\w*market_data", metrics, re.MULTILINE), name


def test_portfolio_service_responds_directly(platform: Platform) -> None:
    platform.trade()

    answer = platform.get("portfolio", "/api/v1/portfolio/user123")

    assert answer.status_code == 200
    assert set(answer.json()) == {"userId", "cash", "positions"}


def test_market_data_service_prices_one_symbol_and_many(platform: Platform) -> None:
    one = platform.get("market-data", "/api/v1/prices/AAPL")
    many = platform.post("market-data", "/api/v1/prices/batch", {"symbols": ["AAPL", "MSFT"]})

    assert one.status_code == many.status_code == 200
    assert [price["symbol"] for price in many.json()["prices"]] == ["AAPL", "MSFT"]


def test_reset_of_the_readme_replaces_the_whole_simulation(platform: Platform) -> None:
    platform.simulate("market-data", failure_rate=0.7, is_healthy=True, response_time_ms=2000)
    told = platform.get("market-data", "/api/v1/simulate/failure").json()
    assert told == {"failure_rate": 0.7, "is_healthy": True, "response_time_ms": 2000}

    platform.simulate("market-data", failure_rate=0.0, is_healthy=True)

    told = platform.get("market-data", "/api/v1/simulate/failure").json()
    assert told == {"failure_rate": 0.0, "is_healthy": True, "response_time_ms": 0}


def failures(platform: Platform) -> int:
    """Return the number of counted failures of market data."""
    status = platform.get("gateway", "/api/v1/circuit-breaker/status").json()
    return int(status["breakers"]["market-data"]["totals"]["failures"])


def test_walk_through_of_the_readme_opens_the_circuit_fails_fast_and_recovers(platform: Platform) -> None:
    before = failures(platform)
    platform.simulate("market-data", failure_rate=0.7, is_healthy=True)
    for number in range(1, 11):
        assert platform.trade(userId=f"user{number}").status_code in (201, 503)
    assert failures(platform) > before

    platform.simulate("market-data", failure_rate=1.0, is_healthy=False)
    until(lambda: platform.trade().json()["code"] == "circuit-open", "the circuit opens")
    refused = platform.trade()
    assert refused.status_code == 503
    assert refused.json()["breaker"] == "market-data"
    assert int(refused.headers["Retry-After"]) >= 1

    platform.simulate("market-data", failure_rate=0.0, is_healthy=True)
    until(lambda: platform.trade().status_code == 201, "a trade works again")
    until(lambda: platform.trade().ok and platform.circuits()["market-data"] == "CLOSED", "the circuit closes")
