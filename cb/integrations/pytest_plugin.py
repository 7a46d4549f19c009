"""Pytest plugin: isolates the ledgers of a test run, and provides fixtures for code that uses breakers.

Pytest loads it automatically where the library is installed. Ledgers of `shm://` URLs are created in a directory of the
test run, before any module of the app is imported: a circuit that a test opens is not open in the next run, in another
worker of pytest-xdist, or in services on this host. Processes started by tests use the same directory.
`circuit_isolation = false` in the configuration of pytest turns the isolation off.
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
    """Isolate the run, unless a setting turns that off. Done at once: the next plugin may import the app."""
    about = "create the circuit breaker ledgers of shm:// URLs in a directory of this test run"
    parser.addini("circuit_isolation", about, type="bool", default=True)
    config = pluginmanager.get_plugin("pytestconfig")
    if config is not None and config.getini("circuit_isolation"):
        stack = ExitStack()
        stack.enter_context(isolated_ledgers())
        config.add_cleanup(stack.close)


class EntryPoint:
    """Loads this module under its own name, so that a run that names it as well loads it once."""

    @staticmethod
    def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
        """Register the module, unless `-p` or a conftest.py has registered it."""
        if not pluginmanager.has_plugin(__name__):
            pluginmanager.register(sys.modules[__name__], __name__)


@pytest.fixture
def circuit_clock() -> FakeClock:
    """Return a `FakeClock` that all these fixtures share in a test."""
    return FakeClock()


@pytest.fixture
def circuit_ledger(tmp_path: Path) -> Ledger:
    """Return a ledger in a file of this test. Other processes can open it by its `path`."""
    return Ledger.in_file(tmp_path / "circuits.ledger")


@pytest.fixture
def circuit_registry(circuit_clock: FakeClock) -> Registry:
    """Return a registry in memory that uses `circuit_clock`."""
    return Registry(clock=circuit_clock)


@pytest.fixture
def circuit_in(circuit_clock: FakeClock) -> Callable[..., CircuitBreaker]:
    """Return `breaker_in` with `circuit_clock`: `circuit_in(State.OPEN)` returns an open breaker."""
    return partial(breaker_in, clock=circuit_clock)


@pytest.fixture
def circuit_workers() -> Iterator[Callable[..., list[Worker]]]:
    """Yield a function that starts processes like `workers`: `circuit_workers(4)`. They end with the test."""
    with ExitStack() as stack:
        yield lambda count, method="spawn": stack.enter_context(workers(count, method))
