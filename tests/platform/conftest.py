"""The three services under gunicorn with two workers each, with ports and databases of their own."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from tests.support import ROOT
from tests.support.gateways import alone
from tests.support.misbehaving import Server, answer
from tests.support.waiting import until

QUOTE = answer(200, '{"symbol": "AAPL", "price": "150.10", "time": "2026-01-01T00:00:00Z", "currency": "USD"}')
PACKAGES = {"gateway": "gateway", "portfolio": "portfolio", "market-data": "marketdata"}


class Platform:
    """The running services, requests to them, and their files."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory = directory
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PACKAGES]
        self.ports = dict(zip(PACKAGES, [each.getsockname()[1] for each in sockets], strict=True))
        for each in sockets:
            each.close()
        ports = {f"CB_SERVICES__{name.upper().replace('-', '_')}__PORT": str(self.ports[name]) for name in PACKAGES}
        databases = {
            f"CB_SERVICES__{name.upper()}__DATABASE": f"sqlite:///{self.database(name)}"
            for name in ("gateway", "portfolio")
        }
        urls = {
            f"CB_SERVICES__GATEWAY__{name.upper().replace('-', '_')}_URL": f"http://127.0.0.1:{self.ports[name]}"
            for name in ("portfolio", "market-data")
        }
        own = {
            "CB_CIRCUIT_BREAKER__TIMEOUT": "1s",
            "CB_SERVICES__GATEWAY__HEALTH_INTERVAL": "500ms",
            "CB_STATE_DIR": str(directory / "state"),
        }
        self._environment = os.environ | ports | databases | urls | own | environ
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in PACKAGES:
            self.launch(name)
        for name in PACKAGES:
            self.until_ready(name)

    def launch(self, name: str) -> None:
        """Start a service without waiting until it is ready."""
        with self.log(name).open("ab") as log:
            command = [sys.executable, "-m", PACKAGES[name]]
            self._processes[name] = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def until_ready(self, name: str) -> None:
        until(lambda: self._ready(name), f"{name} is ready")

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(timeout=30)

    def signal(self, service: str, number: int) -> None:
        """Send a signal to the gunicorn master of a service."""
        self._processes[service].send_signal(number)

    def wait(self, service: str) -> int:
        """Wait for the end of a service and return its exit code."""
        return self._processes[service].wait(timeout=30)

    def _ready(self, name: str) -> bool:
        assert self._processes[name].poll() is None, self.log(name).read_text()
        try:
            # All workers, because a test may stop one of them.
            return bool(self.get(name, "/api/v1/circuit-breaker/status").json()["workers"] == 2)
        except requests.ConnectionError:
            return False

    def get(self, service: str, path: str) -> requests.Response:
        return self.request("GET", service, path)

    def post(self, service: str, path: str, body: object) -> requests.Response:
        headers = {"Content-Type": "application/json"}
        return self.request("POST", service, path, data=json.dumps(body), headers=headers)

    def request(self, method: str, service: str, path: str, **options: Any) -> requests.Response:
        """Send a request on a new connection: any worker may serve it."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"http://127.0.0.1:{self.ports[service]}{path}", timeout=20, **options)

    def trade(self, **changes: object) -> requests.Response:
        order = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": 150.00, **changes}
        return self.post("gateway", "/api/v1/trades", order)

    def simulate(self, service: str, prefix: str = "/api/v1", **simulation: object) -> None:
        assert self.post(service, f"{prefix}/simulate/failure", simulation).status_code == 200

    def circuits(self) -> dict[str, str]:
        breakers = self.get("gateway", "/api/v1/circuit-breaker/status").json()["breakers"]
        return {name: breaker["state"] for name, breaker in breakers.items()}

    def heal(self) -> None:
        """Reset all simulated faults, and trade until all circuits are closed."""
        self.simulate("market-data")
        self.simulate("portfolio")
        for name in ("risk", "notification", "audit"):
            self.simulate("gateway", f"/api/v1/{name}")
        try:
            until(self._all_closed, "all circuits close")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.get('gateway', '/api/v1/circuit-breaker/status').text}") from None
        until(self.all_told, "audit and notification have heard of all trades")

    def _all_closed(self) -> bool:
        if set(self.circuits().values()) == {"CLOSED"}:
            return True
        self.trade(userId="healer")  # a probe
        return False

    def all_alarmed(self) -> bool:
        """Return True if operators were notified of the last circuit that opened or closed."""
        events = self.get("gateway", "/api/v1/circuit-breaker/events").json()["events"]
        last = next((each for each in reversed(events) if each["to"] in ("OPEN", "CLOSED")), None)
        if last is None:
            return True
        told = f"circuit:{last['name']}:{last['generation']}:%"
        return self.rows("gateway", "SELECT count(*) FROM notifications WHERE event_id LIKE ?", told) == [(1,)]

    def all_told(self) -> bool:
        return self.rows("gateway", "SELECT count(*) FROM journal WHERE NOT (audited AND notified)") == [(0,)]

    def workers(self, service: str) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self._processes[service].pid).children()
        return children

    def log(self, service: str) -> Path:
        return self.directory / f"{service}.log"

    def database(self, service: str) -> Path:
        return self.directory / f"{service}.db"

    def rows(self, service: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.database(service))
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(tmp_path_factory.mktemp("platform"))
    platform.directory.chmod(0o700)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()


@pytest.fixture
def platform(running: Platform) -> Iterator[Platform]:
    """Return the platform with all circuits closed. A test fails if one of its requests was a 500."""
    running.heal()
    before = {name: running.log(name).stat().st_size for name in PACKAGES}
    yield running
    for name in PACKAGES:
        news = running.log(name).read_bytes()[before[name] :].decode()
        assert "Traceback" not in news, news
        assert '"status": 500' not in news, news


# Fixtures for the gateway alone, in this process, between two scripted services.


@pytest.fixture
def market_data() -> Iterator[Server]:
    server = Server()
    server.act = QUOTE
    yield server
    server.close()


@pytest.fixture
def portfolio() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, market_data: Server, portfolio: Server) -> Flask:
    return alone(
        monkeypatch,
        tmp_path,
        market_data=market_data.url,
        portfolio=portfolio.url,
        SERVICES__GATEWAY__DATABASE=f"sqlite:///{file}",
        SERVICES__GATEWAY__PORTFOLIO_TIMEOUT="300ms",
        SERVICES__GATEWAY__LIMIT_WAIT="10ms",
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
