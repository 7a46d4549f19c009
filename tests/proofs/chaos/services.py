"""The services as processes that can be killed, under gunicorn with two workers each."""

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.support import ROOT
from tests.support.waiting import until

PACKAGES = {"gateway": "gateway", "portfolio": "portfolio", "market-data": "marketdata"}
WORKERS = 2
SETTINGS = {
    "SERVER__WORKERS": str(WORKERS),
    "SERVER__THREADS": "8",
    # A circuit opens only if all calls fail, not by chance.
    "CIRCUIT_BREAKER__TIMEOUT": "1s",
    "CIRCUIT_BREAKER__FAILURE_THRESHOLD": "8",
    "CIRCUIT_BREAKER__FAILURE_RATE_THRESHOLD": "0.9",
    "CIRCUIT_BREAKER__MINIMUM_REQUESTS": "50",
    "SERVICES__GATEWAY__PORTFOLIO_TIMEOUT": "700ms",
    "SERVICES__GATEWAY__PENDING_DEADLINE": "3s",
    "SERVICES__GATEWAY__POSITION_LIMIT": "400",
    "SERVICES__PORTFOLIO__OPENING_CASH": "20000",
}


class Services:
    """Gateway, portfolio and market data.

    Args:
        databases: URLs by service.
        between: Port of a proxy between gateway and portfolio, if there is one.
        bug: Bug to plant in gateway and portfolio.
        options: Options of gunicorn's command line, by service.
    """

    def __init__(
        self,
        directory: Path,
        databases: dict[str, str],
        between: int | None = None,
        bug: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.ports = dict(zip(PACKAGES, free_ports(len(PACKAGES)), strict=True))
        own = {f"SERVICES__{_variable(name)}__PORT": str(port) for name, port in self.ports.items()}
        own |= {f"SERVICES__{_variable(name)}__DATABASE": url for name, url in databases.items()}
        own |= {
            "SERVICES__GATEWAY__PORTFOLIO_URL": f"http://127.0.0.1:{between or self.ports['portfolio']}",
            "SERVICES__GATEWAY__MARKET_DATA_URL": f"http://127.0.0.1:{self.ports['market-data']}",
            "STATE_DIR": str(directory / "state"),
        }
        self._environment = os.environ | {f"CB_{key}": value for key, value in (SETTINGS | own).items()}
        self._options = options or {}
        self._bug = bug
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the services and wait until all respond."""
        for name in PACKAGES:
            self._start(name)
        for name in PACKAGES:
            self.wait_for(name)

    def stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for name, process in self._processes.items():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill(name)

    def kill_worker(self, name: str, chance: random.Random, *, spare_oldest: bool = False) -> bool:
        """Kill one worker of a service; the master replaces it. Return False if there is none to kill."""
        workers = sorted(psutil.Process(self._processes[name].pid).children(), key=psutil.Process.create_time)
        workers = workers[1:] if spare_oldest else workers
        if workers:
            chance.choice(workers).kill()
        return bool(workers)

    def kill(self, name: str) -> None:
        """Kill the master and all workers of a service at once."""
        master = psutil.Process(self._processes[name].pid)
        master.suspend()
        family = [master, *master.children(recursive=True)]
        for process in family:
            process.kill()
        self._processes[name].wait()
        psutil.wait_procs(family, timeout=10)

    def restart(self, name: str) -> None:
        """Kill a service and restart it on the same port and database."""
        self.kill(name)
        self._start(name)

    def wait_for(self, name: str) -> None:
        """Wait until a service responds."""
        until(lambda: self._answers(name), f"{name} answers")

    def fail_audit(self, rate: float) -> None:
        body = {"failure_rate": rate}
        assert self._request("POST", "gateway", "/api/v1/audit/simulate/failure", json=body).status_code == 200

    def pid(self, name: str) -> int:
        """Return the master process of a service."""
        return self._processes[name].pid

    def get(self, name: str, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._request("GET", name, path).json()
        return answer

    def logs(self) -> dict[str, str]:
        return {name: self._log(name).read_text() for name in PACKAGES}

    def _start(self, name: str) -> None:
        package = PACKAGES[name]
        what = ["tests.proofs.chaos.bugs", self._bug, package] if self._bug and name != "market-data" else [package]
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *what],
                cwd=ROOT,
                env=self._environment | {"GUNICORN_CMD_ARGS": self._options.get(name, "")},
                stdout=log,
                stderr=log,
            )

    def _answers(self, name: str) -> bool:
        assert self._processes[name].poll() is None, self._log(name).read_text()[-3000:]
        try:
            return self._request("GET", name, "/api/v1/health/live").status_code == 200
        except requests.RequestException:
            return False

    def _request(self, method: str, name: str, path: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"http://127.0.0.1:{self.ports[name]}{path}", timeout=10, **options)

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def free_ports(count: int) -> list[int]:
    """Return unused ports outside the ephemeral range, so that no client is assigned one meanwhile."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as each:
            if port not in found and each.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
