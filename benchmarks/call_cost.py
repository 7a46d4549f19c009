"""Cost of a decorated call, admitted or refused: all libraries in turns, in one run, on the same machine."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import circuitbreaker
import interlock
import pybreaker

from cb import CircuitBreaker, Ledger

from .result import Check, Result

ROUNDS, CALLS = 40, 10_000
OURS = "cb, file ledger"
Call = Callable[[], object]


def guarded(work: Call, directory: Path) -> dict[str, Call]:
    """Return the same function, guarded by each library with its defaults."""
    return {
        OURS: CircuitBreaker("bench", ledger=Ledger.in_file(directory / "ledger"))(work),
        "cb, memory": CircuitBreaker("bench")(work),
        "circuitbreaker": circuitbreaker.circuit(work),
        "interlock": interlock.CircuitBreaker(name="bench")(work),
        "pybreaker": pybreaker.CircuitBreaker()(work),
    }


def success() -> Result:
    """Measure the call that every service makes all day: the circuit is closed and the answer comes."""
    with tempfile.TemporaryDirectory() as directory:
        costs = _in_turns({"no breaker": _work, **guarded(_work, Path(directory))}, _run)
    checks = [
        Check(f"{OURS} / circuitbreaker", costs[OURS] / costs["circuitbreaker"], 1.5),
        Check(f"{OURS} / interlock", costs[OURS] / costs["interlock"], 0.2),
    ]
    return _result("A decorated call that succeeds", costs, checks)


def rejection() -> Result:
    """Measure the call that a dead dependency's callers make: the circuit is open."""
    with tempfile.TemporaryDirectory() as directory:
        calls = guarded(_broken, Path(directory))
        for call in calls.values():
            _run_refused(call, 30)
        costs = _in_turns(calls, _run_refused)
    checks = [Check(f"{OURS} / circuitbreaker", costs[OURS] / costs["circuitbreaker"], 1.0)]
    return _result("A decorated call that is refused", costs, checks)


def _in_turns(calls: dict[str, Call], run: Callable[[Call, int], None]) -> dict[str, float]:
    """Return the median cost of a call in nanoseconds, by library."""
    costs: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times = CALLS // 10 if name == "interlock" else CALLS
            begin = time.perf_counter_ns()
            run(call, times)
            costs[name].append((time.perf_counter_ns() - begin) / times)
    return {name: statistics.median(values) for name, values in costs.items()}


def _run(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def _run_refused(call: Call, times: int) -> None:
    for _ in range(times):
        with suppress(Exception):
            call()


def _work() -> None:
    pass


def _broken() -> None:
    raise OSError


def _result(title: str, costs: dict[str, float], checks: list[Check]) -> Result:
    peers = ("circuitbreaker", "interlock")
    rows = {name: (cost, *(cost / costs[peer] for peer in peers)) for name, cost in costs.items()}
    return Result(title, ("ns", *(f"times {peer}" for peer in peers)), rows, checks)
