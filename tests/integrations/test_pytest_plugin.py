"""The pytest plugin, in pytest runs of their own."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cb import CircuitBreaker, Ledger
from tests.support import ROOT

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
    breaker.control.force_open(reason="test", duration=60)
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


SHOP = """
from cb import BreakerConfig, Ledger, Registry

registry = Registry(ledger=Ledger.open("shm://shop"), defaults=BreakerConfig(failure_threshold=1))


def fetch(work):
    return registry.get("vendor").call(work)
"""
TRIPS = """
import subprocess
import sys

import pytest

from shop import fetch, registry


def test_vendor_answers_until_it_fails():
    assert fetch(int) == 0
    with pytest.raises(ZeroDivisionError):
        fetch(lambda: 1 / 0)
    print("DIRECTORY", registry.ledger.path.rpartition("/")[0])


def test_process_that_a_test_starts_shares_the_ledger():
    program = "from shop import registry; print(registry.ledger.path)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == registry.ledger.path
"""


def run(
    directory: Path, *options: str, plugin: str = "cb.integrations.pytest_plugin"
) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{directory}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", plugin, "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False)


def test_fixtures_work_in_the_tests_of_an_app(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    ran = run(tmp_path, "-q", "-W", "error")
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
    assert "failed" not in ran.stdout


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of this host's ledgers, with that of a shop whose vendor is up."""
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path / "host"))
    CircuitBreaker("vendor", ledger=Ledger.open("shm://shop")).call(int)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/shop.py").write_text(SHOP)
    (tmp_path / "project/test_shop.py").write_text(TRIPS)
    return tmp_path / "host"


def directories(ran: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the directories of the ledgers of a test run. The run must have passed."""
    assert ran.returncode == 0, ran.stdout
    assert ran.stderr == ""
    return {line.partition(" ")[2] for line in ran.stdout.splitlines() if line.startswith("DIRECTORY")}


def calls_on(host: Path) -> int:
    return CircuitBreaker("vendor", ledger=Ledger.open("shm://shop", host)).snapshot().totals.requests


EARLY = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests():
    import shop
"""


@pytest.mark.parametrize("imported", ["by the tests", "by a conftest", "by a hook", "by another plugin"])
def test_ledger_that_a_module_opens_belongs_to_the_test_run(host: Path, imported: str) -> None:
    project = host.parent / "project"
    if imported == "by a conftest":
        (project / "conftest.py").write_text("import shop\n")
    (project / "early.py").write_text({"by a hook": EARLY, "by another plugin": "import shop\n"}.get(imported, ""))
    before = calls_on(host)
    first, second = [directories(run(project, "-q", "-s", "-p", "early")) for _ in range(2)]
    assert len(first) == len(second) == 1
    assert first != second
    assert not [path for path in first | second if Path(path).exists()]
    assert calls_on(host) == before
    assert os.environ["CB_STATE_DIR"] == str(host)


def test_each_worker_of_xdist_has_its_own_ledger(host: Path) -> None:
    project = host.parent / "project"
    (project / "test_more.py").write_text(TRIPS)
    ran = run(project, "-q", "-rP", "-p", "xdist.plugin", "-p", "xdist.looponfail", "-n", "2", "--dist", "loadfile")
    assert len(directories(ran)) == 2


def test_isolation_can_be_turned_off(host: Path) -> None:
    project = host.parent / "project"
    (project / "pytest.ini").write_text("[pytest]\ncircuit_isolation = false\n")
    before = calls_on(host)
    assert directories(run(project, "-q", "-s")) == {str(host)}
    assert calls_on(host) == before + 2


def test_plugin_loaded_by_a_conftest_isolates_the_run(host: Path) -> None:
    project = host.parent / "project"
    (project / "conftest.py").write_text("pytest_plugins = ['cb.integrations.pytest_plugin']\n")
    assert directories(run(project, "-q", "-s", plugin="no:circuit_breakers")) != {str(host)}


def test_isolated_ledgers_works_without_pytest(host: Path) -> None:
    program = "from cb.testing import isolated_ledgers\nwith isolated_ledgers() as path:\n    import shop\n"
    program += "    shop.fetch(int)\n    print(path)\nfrom cb import Ledger\nprint(Ledger.open('shm://shop').path)"
    project, before = host.parent / "project", calls_on(host)
    printed = subprocess.check_output(
        [sys.executable, "-c", program], cwd=project, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    path, after = printed.splitlines()
    assert after == str(host / "shop.v3.ledger")
    assert not Path(path).exists()
    assert calls_on(host) == before


def test_pytest_lists_exactly_the_documented_fixtures(tmp_path: Path) -> None:
    listed = run(tmp_path, "--fixtures").stdout
    ours = [line for line in listed.splitlines() if "pytest_plugin.py" in line]
    assert {line.split(" ")[0] for line in ours} == {
        *("circuit_clock", "circuit_in", "circuit_ledger", "circuit_registry", "circuit_workers")
    }


@pytest.mark.parametrize("named", ["", "by the conftest", "by the command, too", "by the command, first"])
def test_plugin_of_an_installed_library_is_loaded_once(host: Path, named: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    project = host.parent / "project"
    (project / "installed-1.dist-info").mkdir()
    (project / "installed-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
    entry_point = setup["options.entry_points"]["pytest11"]
    (project / "installed-1.dist-info/entry_points.txt").write_text(f"[pytest11]{entry_point}\n")
    if named == "by the conftest":
        (project / "conftest.py").write_text("pytest_plugins = ['cb.integrations.pytest_plugin']\n")
    plugins = {
        "by the command, too": ("circuit_breakers", "cb.integrations.pytest_plugin"),
        "by the command, first": ("cb.integrations.pytest_plugin", "circuit_breakers"),
    }.get(named, ("circuit_breakers",))
    more = [option for plugin in plugins[1:] for option in ("-p", plugin)]
    assert directories(run(project, "-q", "-s", "-W", "error", *more, plugin=plugins[0])) != {str(host)}
