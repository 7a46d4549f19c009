"""Cost of a decorated call, admitted or rejected: all libraries in turns, in one run on one machine."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .peers import LOCAL, OURS, Call, Setting
from .result import Check, Result, with_ratios

ROUNDS, CALLS = 40, 10_000
#: Divisors of the number of calls, for slower libraries.
SLOW = {"interlock": 10, "purgatory": 4, "pyresilience": 4}


def guarded(work: Call, directory: Path) -> dict[str, Call]:
    """Return a function guarded by each library in process memory, and by ours in a file too."""
    return {library.name: library.guard(work, Setting(directory)) for library in LOCAL}


def success(rounds: int = ROUNDS) -> Result:
    """Measure a successful call through a closed circuit."""
    with tempfile.TemporaryDirectory() as directory:
        costs = _in_turns({**guarded(_work, Path(directory)), "no breaker": _work}, _run, rounds)
    checks = [
        Check(f"{OURS} / circuitbreaker", costs[OURS] / costs["circuitbreaker"], 1.5),
        Check(f"{OURS} / interlock", costs[OURS] / costs["interlock"], 0.2),
    ]
    return Result("A successful decorated call", ("ns", "ours = 1"), with_ratios(costs, OURS), checks)


def rejection(rounds: int = ROUNDS) -> Result:
    """Measure a call that an open circuit rejects."""
    with tempfile.TemporaryDirectory() as directory:
        calls = guarded(_broken, Path(directory))
        for call in calls.values():
            _run_rejected(call, 30)
        costs = _in_turns(calls, _run_rejected, rounds)
    checks = [Check(f"{OURS} / circuitbreaker", costs[OURS] / costs["circuitbreaker"], 1.0)]
    return Result("A rejected decorated call", ("ns", "ours = 1"), with_ratios(costs, OURS), checks)


def _in_turns(calls: dict[str, Call], run: Callable[[Call, int], None], rounds: int) -> dict[str, float]:
    """Return the median cost of a call in nanoseconds, by library."""
    costs: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times = CALLS // SLOW.get(name, 1)
            begin = time.perf_counter_ns()
            run(call, times)
            costs[name].append((time.perf_counter_ns() - begin) / times)
    return {name: statistics.median(values) for name, values in costs.items()}


def _run(call: Call, times: int) -> None:
    for _ in range(times):
        call()


def _run_rejected(call: Call, times: int) -> None:
    for _ in range(times):
        with suppress(Exception):
            call()


def _work() -> None:
    pass


def _broken() -> None:
    raise OSError
