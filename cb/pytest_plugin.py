"""Fixtures of pytest for code that uses breakers; pytest finds them by itself where this library is installed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from .breaker import CircuitBreaker
from .ledger import Ledger
from .registry import Registry
from .testing import FakeClock, Worker, breaker_in, workers


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
