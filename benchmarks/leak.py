"""How many calls reach a dead dependency before every worker refuses them."""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger

from .result import Check, Result

THRESHOLD = 10
CONFIG = BreakerConfig(failure_threshold=THRESHOLD, failure_rate_threshold=None)


def leak() -> Result:
    """Let 1, 2, 4 and 8 processes call, all at once, until each has been refused."""
    rows, checks = {}, []
    for workers in (1, 2, 4, 8):
        reached = max(_reached(workers) for _ in range(10))
        rows[f"{workers} processes"] = (float(reached), float(THRESHOLD + workers - 1))
        checks.append(Check(f"calls that reach it from {workers}", reached, THRESHOLD + workers - 1))
    title = f"Calls that reach a dead dependency, {THRESHOLD} failures in a row open (worst of 10)"
    return Result(title, ("calls", "threshold and calls already running"), rows, checks)


def _reached(workers: int) -> int:
    context = multiprocessing.get_context("fork")
    counts: Any = context.Queue()
    barrier = context.Barrier(workers)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "l"
        processes = [context.Process(target=_process, args=(path, barrier, counts)) for _ in range(workers)]
        for process in processes:
            process.start()
        reached = sum(counts.get() for _ in processes)
        for process in processes:
            process.join()
    return reached


def _process(path: Path, barrier: Any, counts: Any) -> None:
    breaker = CircuitBreaker("dead", CONFIG, ledger=Ledger.in_file(path))
    reached = 0
    barrier.wait()
    while True:
        try:
            breaker.call(_refuse)
        except ConnectionError:
            reached += 1
        except CircuitOpenError:
            break
    counts.put(reached)


def _refuse() -> None:
    time.sleep(0.002)  # as long as a call takes that finds nobody: so that calls of all processes run at once
    raise ConnectionError
