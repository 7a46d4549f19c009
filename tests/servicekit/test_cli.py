"""The command `cb` with real workers."""

import subprocess
import sys
from pathlib import Path

import requests

from tests.support import ROOT
from tests.support.shop_service import Service


def cb(*arguments: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "cb", *arguments], cwd=ROOT, check=False, capture_output=True
    ).returncode


def test_circuit_opened_from_the_command_line_is_open_in_all_workers(gunicorn: Service) -> None:
    assert cb("status") == 0
    assert cb("force-open", "own-stock", "--reason", "the bank migrates", "--author", "alice") == 0
    for refused in gunicorn.from_each_worker("/api/v1/stock/pen").values():
        assert (refused.status_code, refused.json()["code"]) == (503, "circuit-open")
    for seen in gunicorn.from_each_worker("/api/v1/circuit-breaker/status").values():
        assert seen.json()["workers"] == 2
        assert seen.json()["breakers"]["own-stock"]["why"] == "forced open: the bank migrates (by alice); until reset"
        assert seen.json()["breakers"]["own-stock"]["config"]["failure_threshold"] == 3
    assert cb("status") == 1
    assert cb("reset", "own-stock") == 0
    answers = [requests.get(f"{gunicorn.url}/api/v1/stock/pen", timeout=5) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {200}


def test_circuits_of_a_service_that_has_ended_can_be_looked_at(gunicorn: Service, tmp_path: Path) -> None:
    assert requests.get(f"{gunicorn.url}/api/v1/stock/pen", timeout=5).ok
    gunicorn.stop()
    assert (tmp_path / "state" / "shop.v3.ledger").exists()
    assert cb("explain", "own-stock") == 0
