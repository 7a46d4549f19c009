"""The fixtures, in runs of pytest that have nothing else of ours."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import time

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, State


def trip(path):
    breaker = CircuitBreaker("vendor", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(path))
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)


def test_open_circuit_admits_a_probe_once_its_time_is_up(circuit_in, circuit_clock):
    breaker = circuit_in(State.OPEN, BreakerConfig(timeout=30))
    with pytest.raises(CircuitOpenError):
        breaker.call(abs, -1)
    circuit_clock.advance(30)
    assert breaker.call(abs, -1) == 1


def test_registry_is_on_the_clock(circuit_registry, circuit_clock):
    breaker = circuit_registry.get("vendor")
    breaker.hold(State.FORCED_OPEN, reason="test", seconds=60)
    circuit_clock.advance(61)
    assert breaker.call(abs, -1) == 1


def test_circuit_that_a_worker_opens_is_open_here(circuit_ledger, circuit_workers):
    first, second = circuit_workers(2)
    first.call(trip, circuit_ledger.path)
    first.kill()
    breaker = CircuitBreaker("vendor", ledger=circuit_ledger)
    assert breaker.state is State.OPEN
    assert second.call(abs, -1) == 1


@pytest.mark.parametrize("state", State)
def test_next_test_has_a_ledger_of_its_own(circuit_ledger, circuit_in, state):
    assert circuit_ledger.names() == []
    assert circuit_in(state, ledger=circuit_ledger).state is state
"""


def run(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "cb.pytest_plugin", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False)


def test_fixtures_do_what_tests_of_others_ask_of_them(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    ran = run(tmp_path, "-q", "-W", "error")
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
    assert "failed" not in ran.stdout


def test_fixtures_are_listed_with_what_they_are_and_are_all_ours(tmp_path: Path) -> None:
    listed = run(tmp_path, "--fixtures").stdout
    ours = [line for line in listed.splitlines() if "pytest_plugin.py" in line]
    assert {line.split(" ")[0] for line in ours} == {
        *("circuit_clock", "circuit_in", "circuit_ledger", "circuit_registry", "circuit_workers")
    }


def test_pytest_finds_them_where_the_library_is_installed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["pytest11"].strip() == "circuit_breakers = cb.pytest_plugin"
