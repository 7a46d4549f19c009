"""Cost of a bulkhead: acquiring and releasing a permit, which is a file lock of the kernel."""

import statistics
import tempfile
import time
from pathlib import Path

from cb import Bulkhead, CircuitBreaker, Ledger

from .result import Result

ROUNDS, CALLS = 20, 2_000


def cost() -> Result:
    """Measure a successful decorated call, in microseconds: median and best of the rounds."""
    with tempfile.TemporaryDirectory() as directory:
        shared = CircuitBreaker("bench", ledger=Ledger.in_file(Path(directory) / "ledger"))
        alone = CircuitBreaker("bench")
        calls = {
            "breaker, file ledger": shared(_work),
            "bulkhead, file ledger": Bulkhead(shared, 10)(_work),
            "bulkhead with a wait, file ledger": Bulkhead(shared, 10, wait=1.0)(_work),
            "bulkhead, memory": Bulkhead(alone, 10)(_work),
        }
        costs: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                begin = time.perf_counter_ns()
                for _ in range(CALLS):
                    call()
                costs[name].append((time.perf_counter_ns() - begin) / CALLS / 1000)
    rows = {name: (statistics.median(values), min(values)) for name, values in costs.items()}
    return Result("A call through a bulkhead with a free permit", ("us", "best"), rows)


def _work() -> None:
    pass
