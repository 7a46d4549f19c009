"""Cost of a decorated coroutine: all libraries in turns, in one run of one event loop."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiobreaker
import circuitbreaker
import interlock
import nopanic
import purgatory

from cb import BreakerConfig, CircuitBreaker, Ledger

from .peers import NAME, OURS
from .result import Check, Result, with_ratios

ROUNDS, CALLS = 40, 5_000
#: divisors of the number of calls, for slower libraries
SLOW = {"interlock": 10, "purgatory": 10, "aiobreaker": 4, "nopanic": 4, "circuitbreaker": 4}
SYNCHRONOUS = "cb, a function"
BARE = "no breaker"
FAILURES, TIMEOUT = 10, 60.0

Coroutine = Callable[[], Awaitable[object]]


def asynchronous(rounds: int = ROUNDS) -> Result:
    """Measure a successful coroutine through a closed circuit, and the same work as a function."""
    with tempfile.TemporaryDirectory() as directory:
        costs = asyncio.run(_in_turns(_guarded(Path(directory)), _function(Path(directory)), rounds))
    apart = costs[SYNCHRONOUS] + costs[BARE]
    checks = [
        Check(f"{OURS} / ({SYNCHRONOUS} + {BARE})", costs[OURS] / apart, 1.5),
        Check(f"{OURS} / interlock", costs[OURS] / costs["interlock"], 0.25),
    ]
    return Result("A successful decorated coroutine", ("ns", "ours = 1"), with_ratios(costs, OURS), checks)


def _guarded(directory: Path) -> dict[str, Coroutine]:
    """Return a coroutine function guarded by each library in process memory, and by ours in a file too."""
    config = BreakerConfig(failure_threshold=FAILURES, failure_rate_threshold=None, timeout=TIMEOUT)
    # Those that have only rates: if all calls of the window must fail, they are consecutive failures.
    rates: Any = interlock.Config(
        failure_rate_threshold=1.0,
        minimum_number_of_calls=FAILURES,
        window_size=FAILURES,
        wait_duration_in_open=TIMEOUT,
        permitted_calls_in_half_open=1,
    )
    breakers: dict[str, Callable[[Coroutine], Coroutine]] = {
        OURS: CircuitBreaker(NAME, config, ledger=Ledger.in_file(directory / "ledger")),
        f"{OURS}, memory": CircuitBreaker(NAME, config),
        "circuitbreaker": circuitbreaker.circuit(FAILURES, TIMEOUT, name=NAME),
        "aiobreaker": aiobreaker.CircuitBreaker(FAILURES, timedelta(seconds=TIMEOUT), name=NAME),
        "interlock": interlock.CircuitBreaker(name=NAME, config=rates),
        "nopanic": nopanic.circuit_breaker(failure_threshold=1.0, min_calls=FAILURES, reset_timeout=TIMEOUT, name=NAME),
        "purgatory": purgatory.AsyncCircuitBreakerFactory(FAILURES, TIMEOUT)(NAME),
    }
    return {name: guard(_work) for name, guard in breakers.items()} | {BARE: _work}


def _function(directory: Path) -> Callable[[], object]:
    """Return a function guarded by ours, in the same file."""
    return CircuitBreaker("function", ledger=Ledger.in_file(directory / "ledger"))(lambda: None)


async def _in_turns(calls: dict[str, Coroutine], function: Callable[[], object], rounds: int) -> dict[str, float]:
    """Return the median cost of a call in nanoseconds, by library."""
    costs: dict[str, list[float]] = {name: [] for name in (*calls, SYNCHRONOUS)}
    for _ in range(rounds):
        for name, call in calls.items():
            times = CALLS // SLOW.get(name, 1)
            begin = time.perf_counter_ns()
            for _ in range(times):
                await call()
            costs[name].append((time.perf_counter_ns() - begin) / times)
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            function()
        costs[SYNCHRONOUS].append((time.perf_counter_ns() - begin) / CALLS)
    return {name: statistics.median(values) for name, values in costs.items()}


async def _work() -> None:
    pass
