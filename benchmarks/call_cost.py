"""Cost of a decorated call that succeeds: every library in turns, in one run, so that all meet the same machine."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import circuitbreaker
import interlock
import pybreaker

from cb import CircuitBreaker, Ledger

ROUNDS, CALLS = 40, 20_000
#: what the file ledger may cost at most, in times of a peer's cost
LIMITS = {"circuitbreaker": 2.5, "interlock": 0.4}


def _work() -> None:
    pass


def contenders(directory: Path) -> dict[str, Callable[[], None]]:
    """Return the same function, guarded by each library with its defaults."""
    return {
        "no breaker": _work,
        "cb, file ledger": CircuitBreaker("bench", ledger=Ledger.in_file(directory / "ledger"))(_work),
        "cb, memory": CircuitBreaker("bench")(_work),
        "circuitbreaker": circuitbreaker.circuit(_work),
        "interlock": interlock.CircuitBreaker(name="bench")(_work),
        "pybreaker": pybreaker.CircuitBreaker()(_work),
    }


def measure() -> dict[str, float]:
    """Return the median cost of a call in nanoseconds, by library."""
    with tempfile.TemporaryDirectory() as directory:
        guarded = contenders(Path(directory))
        costs: dict[str, list[float]] = {name: [] for name in guarded}
        for _ in range(ROUNDS):
            for name, call in guarded.items():
                repeat = range(CALLS // 10 if name == "interlock" else CALLS)
                begin = time.perf_counter_ns()
                for _ in repeat:
                    call()
                costs[name].append((time.perf_counter_ns() - begin) / len(repeat))
    return {name: statistics.median(values) for name, values in costs.items()}
