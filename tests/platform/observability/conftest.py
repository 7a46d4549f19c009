"""The running services after some failures, and a Prometheus server that scrapes them."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.platform.conftest import PACKAGES, Platform
from tests.support import ROOT
from tests.support.waiting import until

CONFIG = ROOT / "config"
BOARDS = sorted((CONFIG / "grafana").glob("*.json"))
#: commands in docs/operations.md
COMMANDS = re.findall(r"^((?:prometheus|promtool) .+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
PORTS = {"gateway": 8080, "portfolio": 8081, "market-data": 8082}


def program(name: str) -> str:
    """Return the path of a program of Prometheus. Skips the test if it is not installed."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian: apt-get install prometheus)")
    return found


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alert rules by name."""
    groups = yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels(board: Path) -> dict[str, list[str]]:
    """Return the queries of each panel of a dashboard, with its variables replaced by wildcards."""
    found: dict[str, list[str]] = {}
    for panel in json.loads(board.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "30s").replace("$instance", ".*").replace("$name", ".*")
            found.setdefault(f"{panel['id']} {panel['title']}", []).append(query)
    return found


def invent(platform: Platform) -> None:
    """Request unknown resources of every service."""
    for name in PACKAGES:
        number = random.randrange(10**9)
        platform.get(name, f"/{number}")
        platform.get(name, f"/api/v1/portfolio/user-{number}")
        platform.get(name, f"/api/v1/prices/S{number % 10**8}")
        platform.request(f"M{number}", name, "/metrics")
        platform.post(name, f"/api/v1/circuit-breaker/breaker-{number}/reset", {"reason": "there is none"})


@dataclass
class Prometheus:
    """A running Prometheus server."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current series of an expression."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def rules(self) -> dict[str, dict[str, Any]]:
        return {rule["name"]: rule for group in self.ask("rules")["groups"] for rule in group["rules"]}

    def up(self) -> bool:
        try:
            return {each["health"] for each in self.ask("targets")["activeTargets"]} == {"up"}
        except requests.RequestException:  # it does not listen yet, or is not ready
            return False


@pytest.fixture(scope="session")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Return the services before their start, with known ports."""
    platform = Platform(tmp_path_factory.mktemp("observed"), CB_SERVICES__GATEWAY__COMPARE_INTERVAL="5s")
    platform.directory.chmod(0o700)
    return platform


@pytest.fixture(scope="session")
def platform(stopped: Platform) -> Iterator[Platform]:
    """Yield the services after some trades, a failure of market data, and the opening of its circuit."""
    try:
        stopped.start()
        stopped.heal()
        for _ in range(5):
            assert stopped.trade().status_code == 201
        stopped.get("gateway", "/api/v1/portfolio/user123")
        stopped.simulate("market-data", is_healthy=False)
        until(lambda: stopped.trade().json().get("code") == "circuit-open", "the circuit opens")
        until(lambda: "gateway_trades_differing" in stopped.get("gateway", "/metrics").text, "trades are compared")
        yield stopped
    finally:
        stopped.stop()


@pytest.fixture(scope="session")
def server(stopped: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Yield a Prometheus with the shipped configuration but intervals of a second, for CircuitOpen too.

    It starts scraping some seconds after its start; the services can start meanwhile.
    """
    directory = tmp_path_factory.mktemp("prometheus")
    text = (CONFIG / "prometheus.yml").read_text().replace("15s", "1s")
    for name, port in PORTS.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{stopped.ports[name]}")
    (directory / "prometheus.yml").write_text(text)
    rules, changed = re.subn(r"(?<=for: )30s", "1s", (CONFIG / "alerts.yml").read_text())
    assert changed == 1
    (directory / "alerts.yml").write_text(rules)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    _, *options = next(line for line in COMMANDS if line.startswith("prometheus ")).split()
    options = [each.replace("=config", f"={directory}").replace("=run", f"={directory}") for each in options]
    command = [program("prometheus"), *options, f"--web.listen-address={address}", "--log.level=warn"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=directory, env=os.environ | {"HOME": str(directory)}
        )
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def prometheus(server: Prometheus, platform: Platform) -> Prometheus:
    """Return a Prometheus that has scraped all services."""
    until(server.up, "Prometheus has seen all services")
    return server
