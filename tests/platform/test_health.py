"""The gateway's health checks, run by one worker for all."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.platform.conftest import Platform
from tests.platform.test_circuits import open_circuit
from tests.support import ROOT
from tests.support.misbehaving import Server, answer, stay_silent
from tests.support.waiting import until

pytestmark = pytest.mark.quiet

UP = answer(200, '{"status": "UP"}')
INTERVAL = 0.5


def component(platform: Platform, name: str) -> dict[str, Any]:
    found: dict[str, Any] = platform.get("gateway", "/api/v1/health").json()["components"][name]
    return found


@pytest.mark.parametrize("service", ["market-data", "portfolio"])
def test_simulated_failure_is_shown_by_the_health_of_the_service(platform: Platform, service: str) -> None:
    seen = []
    for simulation in ({"failure_rate": 0.7}, {"response_time_ms": 1}, {"is_healthy": False}, {}):
        platform.simulate(service, **simulation)
        ready = platform.get(service, "/api/v1/health/ready")
        seen.append((ready.status_code, ready.json()["status"]))
    assert seen == [(200, "DEGRADED"), (200, "DEGRADED"), (503, "DOWN"), (200, "UP")]


@pytest.mark.parametrize("service", ["market-data", "portfolio"])
def test_health_of_dependencies_is_known_without_calls(platform: Platform, service: str) -> None:
    until(lambda: component(platform, service).get("health") == "UP", "it is up")
    seen = component(platform, service)
    assert (seen["status"], seen["circuit"], seen["checked_seconds_ago"] < 5) == ("UP", "CLOSED", True)

    platform.simulate(service, is_healthy=False)

    until(lambda: component(platform, service).get("health") == "DOWN", "it is down")
    seen = component(platform, service)
    assert (seen["status"], seen["circuit"]) == ("DOWN", "CLOSED")
    metrics = platform.get("gateway", "/metrics").text
    assert f'circuit_breaker_health{{name="{service}"}} 0.0' in metrics
    assert f'circuit_breaker_health_check_age_seconds{{name="{service}"}}' in metrics
    (line,) = [
        line
        for line in platform.log("gateway").read_text().splitlines()[-50:]
        if f'"health of {service}: DOWN: ' in line
    ][-1:]
    assert re.search(r'"reason": "ServiceUnavailable: GET http://127.0.0.1:\d+: HTTP 503 Service Unavailable"', line)


def test_simulated_parts_of_the_gateway_are_not_checked(platform: Platform) -> None:
    platform.trade()
    assert component(platform, "risk") == {"status": "UP", "circuit": "CLOSED"}


def test_circuit_closes_without_trades(platform: Platform) -> None:
    platform.simulate("market-data", is_healthy=False)
    open_circuit(platform)

    platform.simulate("market-data")

    until(lambda: platform.circuits()["market-data"] == "CLOSED", "the circuit closes")
    assert platform.trade().status_code == 201


def test_circuit_stays_open_while_only_some_calls_would_fail(platform: Platform) -> None:
    platform.simulate("market-data", is_healthy=False)
    open_circuit(platform)
    platform.simulate("market-data", failure_rate=0.3)

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = platform.get("gateway", "/api/v1/circuit-breaker/status").json()["breakers"]
        breaker: dict[str, Any] = found["market-data"]
        assert breaker["state"] != "CLOSED"
        return breaker

    begin = seen()["generation"]
    until(lambda: seen()["generation"] >= begin + 4, "two rounds end")
    assert "health check" in seen()["why"]


class Gateway:
    """A gateway with four workers and scripted dependencies."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.log = directory / "log"
        self.market_data, self.portfolio = Server(), Server()
        self.market_data.act = self.portfolio.act = UP
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api/v1/health"
        settings = {
            "CB_STATE_DIR": str(self.state),
            "CB_SERVER__WORKERS": "4",
            "CB_SERVICES__GATEWAY__PORT": str(port),
            "CB_SERVICES__GATEWAY__DATABASE": f"sqlite:///{directory}/gateway.db",
            "CB_SERVICES__GATEWAY__MARKET_DATA_URL": self.market_data.url,
            "CB_SERVICES__GATEWAY__PORTFOLIO_URL": self.portfolio.url,
            "CB_SERVICES__GATEWAY__HEALTH_INTERVAL": f"{INTERVAL}s",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway"], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log
            )

    def component(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = requests.get(self.url, timeout=5).json()["components"][name]
        except requests.ConnectionError:
            return {}
        return found

    def checkers(self) -> list[int]:
        """Return the processes that run health checks, one per dependency."""
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        inodes = {str(lock.stat().st_ino) for lock in self.state.glob("*.locks/health-*")}
        return [int(line[4]) for line in held if line[5].rpartition(":")[2] in inodes]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.market_data.close()
        self.portfolio.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    try:
        until(lambda: made.component("portfolio").get("health") == "UP", "the portfolio is checked")
        until(lambda: len(made.checkers()) == 2, "both are checked")
        yield made
    finally:
        made.close()


def test_four_workers_check_a_dependency_once_per_interval_and_share_the_result(gateway: Gateway) -> None:
    before, begin = len(gateway.portfolio.requests), time.monotonic()
    until(lambda: len(gateway.portfolio.requests) == before + 6, "six checks")
    assert time.monotonic() - begin > 5 * INTERVAL * 0.8
    assert {request.partition("\r\n")[0] for request in gateway.portfolio.requests} == {
        "GET /api/v1/health/ready HTTP/1.1"
    }
    assert {gateway.component("portfolio")["health"] for _ in range(20)} == {"UP"}


def test_another_worker_takes_over_the_checks_of_a_killed_one(gateway: Gateway) -> None:
    killed = gateway.checkers()
    for process in set(killed):
        os.kill(process, signal.SIGKILL)
    before, begin = len(gateway.portfolio.requests), time.monotonic()
    until(lambda: len(gateway.portfolio.requests) > before, "a process checks")
    assert time.monotonic() - begin < 3 * INTERVAL
    until(lambda: len(gateway.checkers()) == 2, "both are checked again")
    assert not set(gateway.checkers()) & set(killed)


def test_hung_check_delays_neither_other_checks_nor_the_shutdown(gateway: Gateway) -> None:
    gateway.portfolio.act = stay_silent
    before = len(gateway.market_data.requests)
    until(lambda: gateway.component("portfolio").get("health") == "DOWN", "the portfolio is down")
    until(lambda: len(gateway.market_data.requests) >= before + 2, "market data is checked")
    hangs = len(gateway.portfolio.requests)
    until(lambda: len(gateway.portfolio.requests) > hangs, "a check hangs")

    begin = time.monotonic()
    gateway.process.terminate()
    assert gateway.process.wait(20) == 0
    assert time.monotonic() - begin < 5
    assert "Traceback" not in gateway.log.read_text()
