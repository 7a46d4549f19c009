"""Isolation of a test run, and fixtures, for code that uses breakers.

Pytest finds this by itself where the library is installed. The ledgers that `shm://` names lie in a directory of this
run, made before any module of the app is imported: no circuit that a test opens is open in the next run, in another
worker of pytest-xdist, or in what runs on this host. Processes that the tests start inherit it.
`circuit_isolation = false` in the configuration of pytest leaves the ledgers where they are.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from cb.breaker import CircuitBreaker
from cb.ledger.ledger import Ledger
from cb.registry import Registry
from cb.testing import FakeClock, Worker, breaker_in, isolated_ledgers, workers


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Isolate the run at once, as the next plugin may import the app, unless a setting turns that off."""
    about = "put the ledgers of circuit breakers that shm:// names into a directory of this test run"
    parser.addini("circuit_isolation", about, type="bool", default=True)
    config = pluginmanager.get_plugin("pytestconfig")
    if config is not None and config.getini("circuit_isolation"):
        stack = ExitStack()
        stack.enter_context(isolated_ledgers())
        config.add_cleanup(stack.close)


class EntryPoint:
    """Loads this module under its own name, so that a run which names it, too, has it once."""

    @staticmethod
    def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
        """Register the module, unless `-p` or a conftest.py has done so."""
        if not pluginmanager.has_plugin(__name__):
            pluginmanager.register(sys.modules[__name__], __name__)


@pytest.fixture
def circuit_clock() -> FakeClock:
    """Return a clock that stands still until `advance`, for all that these fixtures make in a test."""
    return FakeClock()


@pytest.fixture
def circuit_ledger(tmp_path: Path) -> Ledger:
    """Return a ledger in a file of the test's own: processes that the test starts share it by its `path`."""
    return Ledger.in_file(tmp_path / "circuits.ledger")


@pytest.fixture
def circuit_registry(circuit_clock: FakeClock) -> Registry:
    """Return a registry in memory, on the clock."""
    return Registry(clock=circuit_clock)


@pytest.fixture
def circuit_in(circuit_clock: FakeClock) -> Callable[..., CircuitBreaker]:
    """Return `breaker_in`, on the clock: `circuit_in(State.OPEN)` makes a breaker in that state."""
    return partial(breaker_in, clock=circuit_clock)


@pytest.fixture
def circuit_workers() -> Iterator[Callable[..., list[Worker]]]:
    """Yield what starts processes, as `workers` does: `circuit_workers(4)`. They end with the test."""
    with ExitStack() as stack:
        yield lambda count, method="spawn": stack.enter_context(workers(count, method))
