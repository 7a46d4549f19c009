"""The gateway's circuits, shared by two workers."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.platform.conftest import Platform
from tests.support.waiting import until


@contextmanager
def only(platform: Platform, service: str, chosen: psutil.Process) -> Iterator[None]:
    """Let one worker serve all requests by stopping the others."""
    others = [worker for worker in platform.workers(service) if worker.pid != chosen.pid]
    for worker in others:
        worker.send_signal(signal.SIGSTOP)
    try:
        until(lambda: all(worker.status() == psutil.STATUS_STOPPED for worker in others), "the others stand still")
        yield
    finally:
        for worker in others:
            worker.send_signal(signal.SIGCONT)


def open_circuit(platform: Platform, name: str = "market-data") -> None:
    until(lambda: not platform.trade().ok and platform.circuits()[name] == "OPEN", f"{name} opens")


def status(platform: Platform) -> dict[str, Any]:
    answer: dict[str, Any] = platform.get("gateway", "/api/v1/circuit-breaker/status").json()
    for breaker in answer["breakers"].values():  # rounded to seconds, which may differ between the two
        del breaker["since"], breaker["retry_after_seconds"], breaker["why"]
        breaker["last_failure"] = breaker["last_failure"] and breaker["last_failure"]["type"]
    del answer["breakers"]["database"]  # the background tasks of one worker use it all the time
    return answer | {"time": None}


def test_both_workers_give_the_same_status(platform: Platform) -> None:
    first, second = platform.workers("gateway")
    platform.simulate("market-data", failure_rate=0.4)
    for _ in range(8):
        platform.trade()
    until(platform.all_told, "audit and notification have heard of the trades")

    with only(platform, "gateway", first):
        from_first = status(platform)
    with only(platform, "gateway", second):
        from_second = status(platform)

    assert from_first == from_second
    assert from_first["workers"] == 2


def test_circuit_that_one_worker_opened_is_open_in_the_other(platform: Platform) -> None:
    first, second = platform.workers("gateway")
    platform.simulate("market-data", is_healthy=False)
    with only(platform, "gateway", first):
        while platform.trade().json()["code"] != "circuit-open":
            pass

    with only(platform, "gateway", second):
        answer = platform.trade()

    assert (answer.status_code, answer.json()["code"]) == (503, "circuit-open")


def test_simulation_set_through_one_worker_holds_in_the_other(platform: Platform) -> None:
    first, second = platform.workers("market-data")
    with only(platform, "market-data", first):
        platform.simulate("market-data", is_healthy=False)

    with only(platform, "market-data", second):
        answer = platform.get("market-data", "/api/v1/prices/AAPL")

    assert (answer.status_code, answer.json()["code"]) == (503, "simulated-failure")


def test_trade_against_an_open_market_data_circuit_fails_fast_and_leaves_no_trade(platform: Platform) -> None:
    platform.simulate("market-data", is_healthy=False, response_time_ms=500)
    while platform.trade().json()["code"] != "circuit-open":
        pass
    trades = platform.rows("gateway", "SELECT count(*) FROM trades")

    before = time.perf_counter()
    answer = platform.trade()
    seconds = time.perf_counter() - before

    assert (answer.status_code, answer.json()["code"], answer.json()["breaker"]) == (503, "circuit-open", "market-data")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    assert seconds < 0.25, "half of what market data takes to fail"
    assert platform.rows("gateway", "SELECT count(*) FROM trades") == trades


def test_open_circuit_closes_when_the_service_recovers(platform: Platform) -> None:
    platform.simulate("market-data", is_healthy=False)
    open_circuit(platform)

    platform.simulate("market-data")

    until(lambda: platform.trade().status_code == 201, "a trade works again")
    until(lambda: platform.trade().ok and platform.circuits()["market-data"] == "CLOSED", "the circuit closes")


def test_risk_that_hangs_for_a_minute_refuses_the_order_after_its_timeout(platform: Platform) -> None:
    platform.simulate("gateway", "/api/v1/risk", response_time_ms=60_000)
    before = time.monotonic()

    answer = platform.trade()

    assert (answer.status_code, answer.json()["dependency"]) == (503, "risk")
    assert time.monotonic() - before < 8, "order_timeout"


def test_open_risk_circuit_refuses_trades(platform: Platform) -> None:
    platform.simulate("gateway", "/api/v1/risk", is_healthy=False)
    failed = platform.trade()
    assert (failed.status_code, failed.json()["dependency"]) == (503, "risk")
    open_circuit(platform, "risk")

    answer = platform.trade()

    assert (answer.status_code, answer.json()["breaker"]) == (503, "risk")
    assert "Retry-After" in answer.headers and "Retry-After" in failed.headers


def test_open_portfolio_circuit_refuses_trades_and_books_none(platform: Platform) -> None:
    platform.simulate("portfolio", is_healthy=False)
    platform.trade()
    while platform.trade().status_code == 202:
        pass

    answer = platform.trade(userId="refused")

    assert (answer.status_code, answer.json()["breaker"]) == (503, "portfolio")
    assert platform.rows("gateway", "SELECT state FROM trades WHERE user_id = 'refused'") == [("REFUSED",)]


@pytest.mark.parametrize("service", ["notification", "audit"])
def test_failing_reader_of_the_outbox_does_not_stop_trades(platform: Platform, service: str) -> None:
    platform.simulate("gateway", f"/api/v1/{service}", is_healthy=False)

    trades = [platform.trade(userId="heard") for _ in range(12)]

    assert [each.status_code for each in trades] == [201] * 12
    until(lambda: platform.circuits()[service] == "OPEN", "the circuit opens")
    platform.heal()
    ids = {each.json()["tradeId"] for each in trades}
    until(lambda: ids <= told(platform, service, "heard"), "it has heard of all trades")


def told(platform: Platform, service: str, user_id: str) -> set[str]:
    """Return the user's trades whose final state a service has received."""
    if service == "notification":
        return {each["tradeId"] for each in listed(platform, f"/api/v1/notifications/{user_id}", "notifications")}
    entries = listed(platform, "/api/v1/audit/trades?limit=200", "entries")
    return {each["tradeId"] for each in entries if each["state"] == "FILLED"}


def listed(platform: Platform, path: str, name: str) -> list[dict[str, Any]]:
    """Return all entries of a list, page by page."""
    page = platform.get("gateway", path)
    found: list[dict[str, Any]] = page.json()[name]
    while "next" in page.links:
        page = platform.get("gateway", page.links["next"]["url"])
        found += page.json()[name]
    return found


def test_reads_return_the_last_good_response_marked_stale_while_a_service_is_down(platform: Platform) -> None:
    worker = platform.workers("gateway")[0]
    with only(platform, "gateway", worker):
        fresh = [
            platform.get("gateway", f"/api/v1/{path}").json() for path in ("market-data/AAPL", "portfolio/user123")
        ]
        platform.simulate("market-data", is_healthy=False)
        platform.simulate("portfolio", is_healthy=False)

        stale = [
            platform.get("gateway", f"/api/v1/{path}").json() for path in ("market-data/AAPL", "portfolio/user123")
        ]

        assert [answer.pop("stale") for answer in stale] == [True, True]
        assert all(answer.pop("ageSeconds") >= 0 for answer in stale)
        assert stale == [
            {name: answer[name] for name in answer if name not in ("stale", "ageSeconds")} for answer in fresh
        ]
        assert platform.trade().status_code == 503, "a trade never uses a stale price"
        assert platform.get("gateway", "/api/v1/market-data/MSFT").status_code == 503, "never read before"


def test_response_fetched_by_one_worker_is_served_stale_by_the_other(platform: Platform) -> None:
    first, second = platform.workers("gateway")
    reads = ("market-data/GOOGL", "portfolio/user123")
    with only(platform, "gateway", first):
        fresh = [platform.get("gateway", f"/api/v1/{path}").json() for path in reads]
    platform.simulate("market-data", is_healthy=False)
    platform.simulate("portfolio", is_healthy=False)

    with only(platform, "gateway", second):
        stale = [platform.get("gateway", f"/api/v1/{path}").json() for path in reads]

    assert [answer["stale"] for answer in stale] == [True, True]
    assert all(answer["ageSeconds"] >= 0 for answer in stale)
    marked = {"stale": True, "ageSeconds": None}
    assert [answer | marked for answer in stale] == [answer | marked for answer in fresh]


def test_health_shows_open_circuits_and_the_gateway_stays_ready(platform: Platform) -> None:
    platform.simulate("market-data", is_healthy=False)
    open_circuit(platform)

    health, ready = (platform.get("gateway", f"/api/v1/health{path}") for path in ("", "/ready"))

    assert (health.status_code, health.json()["status"]) == (200, "DEGRADED")
    assert (ready.status_code, ready.json()["status"]) == (200, "UP")
