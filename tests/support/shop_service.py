"""A shop: its configuration in a directory of its own, its app, and its real gunicorn workers."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from tests.support import ROOT, shop
from tests.support.waiting import until

CONFIG = """
circuit_breaker: {failure_threshold: 3, minimum_requests: 100, timeout: 20s, timeout_jitter: 0}
breakers: {own-stock: {success_threshold: 1}}
services:
  shop: {port: 8099}
  other: {port: nonsense}
"""
GUNICORN = ("-m", "gunicorn", "-c", "config/gunicorn.conf.py", "shop:create_app()")
#: what `python -m shop` would run
SERVE = ("-c", "from servicekit import serve; serve('shop')")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the settings of this test come from."""
    for name in [name for name in os.environ if name.startswith("CB_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    monkeypatch.setenv("CB_CONFIG", str(file))
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "state"))
    return file


@pytest.fixture
def app(config: Path) -> Flask:
    return shop.create_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class Service:
    """The shop as a process of its own, started as its users would."""

    def __init__(self, log: Path, command: Sequence[str] = GUNICORN, name: str = "SHOP", **environ: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        environ |= {f"CB_SERVICES__{name}__PORT": str(port), "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=os.environ | environ, stdout=stream, stderr=stream
            )

    def wait_until_up(self) -> None:
        def up() -> bool:
            try:
                return requests.get(f"{self.url}/api/v1/health/live", timeout=5).ok
            except requests.ConnectionError:
                assert self.process.poll() is None, self.log.read_text()
                return False

        until(up)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def from_each_worker(self, path: str, workers: int = 2) -> dict[str, requests.Response]:
        """Return a response of each worker, by its process id. Each request uses its own connection."""
        answers: dict[str, requests.Response] = {}

        def asked() -> bool:
            answer = requests.get(self.url + path, timeout=5, headers={"Connection": "close"})
            answers[answer.headers["X-Worker"]] = answer
            return len(answers) == workers

        until(asked)
        return answers


@pytest.fixture
def gunicorn(config: Path, tmp_path: Path) -> Iterator[Service]:
    """Return the shop, served by two workers."""
    service = Service(tmp_path / "log")
    try:
        service.wait_until_up()
        yield service
    finally:
        service.stop()
