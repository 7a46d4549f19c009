"""The systemd unit of docs/deployment.md, checked by systemd-analyze and started with its settings."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest
import requests
import yaml

from tests.packaging import confined
from tests.support import ROOT
from tests.support.redis_servers import free_port
from tests.support.waiting import until

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)"
)
needs_namespace = pytest.mark.skipif(not confined.possible(), reason="needs a root who may make namespaces of mounts")

UNIT = (ROOT / "config/trading@.service").read_text()
PACKAGES = re.findall(r"trading@(\w+)", UNIT.splitlines()[0])
#: program and directory of a host set up by docs/deployment.md, and their replacements here
HERE = {confined.PYTHON: sys.executable, "WorkingDirectory=/opt/trading": f"WorkingDirectory={ROOT}"}


def analyze(directory: Path, unit: str, *command: str) -> subprocess.CompletedProcess[str]:
    for theirs, ours in HERE.items():
        unit = unit.replace(theirs, ours)
    file = directory / "trading@gateway.service"
    file.write_text(unit)
    return subprocess.run(["systemd-analyze", *command, str(file)], capture_output=True, text=True, check=False)


@needs_analyze
def test_unit_is_verified_by_systemd_analyze(tmp_path: Path) -> None:
    found = analyze(tmp_path, UNIT, "verify", "--man=no")
    assert (found.returncode, found.stderr) == (0, "")
    assert "ProtectNobody" in analyze(tmp_path, UNIT + "[Service]\nProtectNobody=yes\n", "verify", "--man=no").stderr


@needs_analyze
def test_exposure_of_the_unit_is_low(tmp_path: Path) -> None:
    found = analyze(tmp_path, UNIT, "security", "--offline=true", "--no-pager", "--threshold=25")
    assert found.returncode == 0, found.stdout  # an exposure of at most 2.5 of 10


def test_unit_names_the_three_packages() -> None:
    assert sorted(PACKAGES) == ["gateway", "marketdata", "portfolio"]
    assert all((ROOT / package / "__main__.py").is_file() for package in PACKAGES)


class Host:
    """A host that runs the services with the unit's user, directories, environment, mask and limits."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = {name: free_port() for name in ("gateway", "portfolio", "market-data")}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        unit = RawConfigParser(strict=False)
        unit.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep capitals
        unit.read_string(UNIT)
        self.unit = unit["Service"]
        self.places = [f"/run/{self.unit['RuntimeDirectory']}", f"/var/lib/{self.unit['StateDirectory']}"]
        for place, mode in zip(self.places, ("RuntimeDirectoryMode", "StateDirectoryMode"), strict=True):
            directory = home / place[1:]
            directory.mkdir(parents=True)
            directory.chmod(int(self.unit[mode], 8))
            os.chown(directory, confined.USER, confined.USER)
        self.image = home / "image"
        for name in ("cb", "servicekit", "config", *PACKAGES):
            shutil.copytree(ROOT / name, self.image / name, ignore=shutil.ignore_patterns("__pycache__"))
        settings = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        for name, port in self.ports.items():
            settings["services"][name]["port"] = port
        for name in ("gateway", "portfolio"):
            settings["services"][name]["database"] = f"sqlite:///{self.places[1]}/{name}.db"
        for name in ("portfolio", "market-data"):
            settings["services"]["gateway"][f"{name.replace('-', '_')}_url"] = f"http://127.0.0.1:{self.ports[name]}"
        # /etc/trading/config.yaml: the simulated host has no /etc of its own.
        (self.image / "settings.yaml").write_text(yaml.safe_dump(settings))

    def start(self, package: str) -> None:
        name, _, value = self.unit["Environment"].partition("=")
        self.processes[package] = confined.start(
            ["prlimit", f"--nofile={self.unit['LimitNOFILE']}", *self.unit["ExecStart"].replace("%i", package).split()],
            image=self.image,
            bound=self.home,
            places=self.places,
            environ={
                name: value.replace("/etc/trading/config.yaml", "/opt/trading/settings.yaml"),
                "RUNTIME_DIRECTORY": self.places[0],
                "STATE_DIRECTORY": self.places[1],
            },
            log=self.home / "log",
            fresh=("/tmp", "/var/tmp", "/root"),
            umask=self.unit["UMask"],
        )

    def healthy(self, name: str) -> bool:
        assert not [each for each in self.processes.values() if each.poll() is not None], (
            self.home / "log"
        ).read_text()
        try:
            return requests.get(f"http://127.0.0.1:{self.ports[name]}/api/v1/health/ready", timeout=5).ok
        except requests.ConnectionError:
            return False


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    for process in host.processes.values():
        process.kill()
        process.wait()


@needs_namespace
def test_services_with_the_settings_of_the_unit_trade_write_private_files_and_end_in_time(host: Host) -> None:
    for package in PACKAGES:
        host.start(package)
    for name in host.ports:
        until(lambda: host.healthy(name), seconds=30)  # noqa: B023 - called before the next round
    order = {"userId": "user123", "symbol": "AAPL", "quantity": 1, "orderType": "BUY", "price": "150.00"}
    answer = requests.post(f"http://127.0.0.1:{host.ports['gateway']}/api/v1/trades", json=order, timeout=10)
    assert answer.status_code == 201, answer.text

    written = [path for place in host.places for path in (host.home / place[1:]).rglob("*")]
    assert {path.name for path in written} >= {"gateway.v3.ledger", "portfolio.v3.ledger", "gateway.db", "portfolio.db"}
    assert not [path for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077]

    for process in host.processes.values():
        process.send_signal(signal.SIGTERM)
    codes = {package: process.wait(int(host.unit["TimeoutStopSec"])) for package, process in host.processes.items()}
    assert codes == dict.fromkeys(PACKAGES, 0), "systemd would take another code for a failure, and start it again"
