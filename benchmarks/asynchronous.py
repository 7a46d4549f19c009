"""Cost of a decorated coroutine: all libraries in turns, in one run of one event loop."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cb import CircuitBreaker, Ledger

from .async_peers import ASYNC_LIBRARIES, Coroutine
from .peers import OURS, Setting
from .result import Check, Result, with_ratios

ROUNDS, CALLS = 40, 5_000
#: divisors of the number of calls, for slower libraries
SLOW = {"interlock": 10, "purgatory": 10, "aiobreaker": 4, "nopanic": 4, "circuitbreaker": 4}
SYNCHRONOUS = "cb, a function"
BARE = "no breaker"
FAILURES, TIMEOUT = 10, 60.0


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
    setting = Setting(directory, failures=FAILURES, timeout=TIMEOUT)
    return {name: each.breaker(setting)(_work) for name, each in ASYNC_LIBRARIES.items()} | {BARE: _work}


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
