"""`serve`, the whole of `python -m SERVICE`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support import ROOT
from tests.support.shop_service import SERVE, Service

SIMULATE = "/api/v1/simulate/failure"


@pytest.mark.parametrize(("server", "workers"), [("", 2), ("waitress", 1)])
def test_service_is_the_same_under_either_server(config: Path, tmp_path: Path, server: str, workers: int) -> None:
    service = Service(tmp_path / "log", SERVE, CB_SERVER=server, PROMETHEUS_MULTIPROC_DIR="/nowhere")
    try:
        service.wait_until_up()
        assert len(service.from_each_worker("/api/v1/health", workers)) == workers
        answer = requests.get(service.url + "/api/v1/stock/pen", timeout=5)
        assert "Server" not in answer.headers or not any(letter.isdigit() for letter in answer.headers["Server"])
        status = requests.get(service.url + "/api/v1/circuit-breaker/status", timeout=5).json()
        assert (status["workers"], status["breakers"]["own-stock"]["totals"]["requests"]) == (workers, 1)
        text = requests.get(service.url + "/metrics", timeout=5).text
        assert 'circuit_breaker_requests_total{name="own-stock",outcome="success"} 1.0' in text
        assert (
            'flask_http_request_duration_seconds_count{method="GET",status="200",url_rule="/api/v1/stock/<item>"}'
            in text
        )
        assert "_created" not in text
    finally:
        service.stop()
    assert service.process.returncode == 0
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize(
    ("package", "name", "wrong"),
    [("marketdata", "market-data", "sed"), ("gateway", "gateway", "price_bend"), ("portfolio", "portfolio", "cash")],
)
def test_gunicorn_alone_finds_a_service_and_its_settings_where_it_is_started(
    config: Path, package: str, name: str, wrong: str
) -> None:
    config.write_text(f"services: {{{name}: {{port: 8082, {wrong}: 1}}}}")
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    command = [gunicorn, "-c", "config/gunicorn.conf.py", f"{package}:create_app()"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"{config}: services.{name}.{wrong} must not be present")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("server", ["", "waitress"])
def test_service_with_a_wrong_setting_does_not_start(config: Path, tmp_path: Path, server: str) -> None:
    config.write_text("circuit_breaker: {timout: 5s}\nservices: {shop: {port: 8099}}")
    service = Service(tmp_path / "log", SERVE, CB_SERVER=server)
    assert service.process.wait(20) == 1
    log = service.log.read_text()
    assert log.startswith(f"{config}: circuit_breaker.timout must be one of")
    assert log.endswith("got '5s'\n")
    assert "Traceback" not in log
