"""What many threads, and many processes, get out of one breaker."""

import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cb import CircuitBreaker, Ledger

from .call_cost import OURS, guarded
from .result import Check, Result

THREADS, PROCESSES, ROUNDS, SECONDS, CALLS = 8, 8, 15, 0.3, 20_000
SLOW = {"interlock": 20, "pybreaker": 10}  # fewer calls of these: a rate needs no more


def threads() -> Result:
    """Let threads make many calls through one breaker, each library in turns."""
    with tempfile.TemporaryDirectory() as directory:
        calls = guarded(_work, Path(directory))
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                rates[name].append(_rate_of_threads(call, CALLS // SLOW.get(name, 1)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max((name for name in medians if not name.startswith("cb")), key=lambda name: medians[name])
    # Neighbours in time are compared: what else the machine does troubles both.
    ratio = statistics.median(ours / theirs for ours, theirs in zip(rates[OURS], rates[best], strict=True))
    check = Check(f"{OURS} / best peer", ratio, 1.0, at_most=False)
    title = f"{THREADS} threads on one breaker"
    return Result(title, ("calls a second",), {name: (value,) for name, value in medians.items()}, [check])


def processes() -> Result:
    """Let processes call, in turns, through one breaker and through a breaker of their own each."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as directory:
        counts: Any = context.Queue()
        barrier = context.Barrier(PROCESSES)
        workers = [
            context.Process(target=_process, args=(Path(directory) / "l", number, barrier, counts))
            for number in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        found = [counts.get() for _ in workers]
        for worker in workers:
            worker.join()
    rounds = list(zip(*found, strict=True))
    shared, own = (statistics.median(sum(counts[i] for counts in turn) / SECONDS for turn in rounds) for i in (0, 1))
    ratio = statistics.median(sum(counts[0] for counts in turn) / sum(counts[1] for counts in turn) for turn in rounds)
    rows = {"one breaker for all": (shared,), "a breaker each": (own,)}
    check = Check("one breaker / a breaker each", ratio, 0.9, at_most=False)
    return Result(f"{PROCESSES} processes on one ledger file", ("calls a second",), rows, [check])


def _process(path: Path, number: int, barrier: Any, counts: Any) -> None:
    ledger = Ledger.in_file(path)
    calls = [CircuitBreaker("shared", ledger=ledger)(_work), CircuitBreaker(f"own-{number}", ledger=ledger)(_work)]
    found = []
    for _ in range(ROUNDS):
        turn = []
        for call in calls:
            barrier.wait()
            turn.append(_count(call, time.monotonic() + SECONDS))
        found.append(turn)
    counts.put(found)


def _rate_of_threads(call: Callable[[], object], calls: int) -> float:
    barrier = threading.Barrier(THREADS + 1)

    def run() -> None:
        barrier.wait()
        for _ in range(calls):
            call()
        barrier.wait()

    workers = [threading.Thread(target=run) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    barrier.wait()
    begin = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - begin
    for worker in workers:
        worker.join()
    return THREADS * calls / seconds


def _count(call: Callable[[], object], end: float) -> int:
    count = 0
    while time.monotonic() < end:
        for _ in range(200):
            call()
        count += 200
    return count


def _work() -> None:
    pass
