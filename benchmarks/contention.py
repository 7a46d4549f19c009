"""Throughput of one breaker used by many threads, and by many processes."""

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cb.testing import workers

from .call_cost import guarded
from .peers import LIBRARIES, OURS, Call, Setting
from .result import Check, Result, with_ratios

THREADS, PROCESSES, ROUNDS, SECONDS, CALLS = 8, 8, 15, 0.2, 20_000
SLOW = {
    "interlock": 20,
    "pybreaker": 10,
    "purgatory": 4,
    "pyresilience": 4,
}  # divisors of the number of calls, for slower libraries
EACH = f"{OURS}, a breaker each"
_calls: dict[str, Call] = {}


def threads(rounds: int = ROUNDS) -> Result:
    """Measure threads that call through one breaker, for each library in turns."""
    with tempfile.TemporaryDirectory() as directory:
        calls = guarded(_work, Path(directory))
        rates: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                rates[name].append(_rate_of_threads(call, CALLS // SLOW.get(name, 1)))
    medians = _medians(rates)
    best = max((name for name in medians if not name.startswith("cb")), key=lambda name: medians[name])
    check = Check(f"{OURS} / best peer ({best})", _ratio(rates, OURS, best), 1.0, at_most=False)
    title = f"{THREADS} threads on one breaker"
    return Result(title, ("calls a second", "ours = 1"), with_ratios(medians, OURS), [check])


def processes(rounds: int = ROUNDS) -> Result:
    """Measure processes that call, in turns: through one breaker for all, or one for each process, as with peers."""
    with tempfile.TemporaryDirectory() as directory, workers(PROCESSES, "fork") as started:
        for number, worker in enumerate(started):
            worker.call(_begin, Path(directory), number)
        names = started[0].call(_names)
        rates: dict[str, list[float]] = {name: [] for name in names}
        with ThreadPoolExecutor(PROCESSES) as pool:
            for _ in range(rounds):
                for name in names:
                    begin = time.monotonic() + 0.02
                    counts = pool.map(lambda worker: worker.call(_count, name, begin), started)  # noqa: B023 - consumed in the next line
                    rates[name].append(sum(counts) / SECONDS)
    check = Check("one breaker / a breaker each", _ratio(rates, OURS, EACH), 0.9, at_most=False)
    title = f"{PROCESSES} processes: one breaker for all of ours, peers have one each"
    return Result(title, ("calls a second", "ours = 1"), with_ratios(_medians(rates), OURS), [check])


def _medians(rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in rates.items()}


def _ratio(rates: dict[str, list[float]], one: str, other: str) -> float:
    """Return the ratio of two rates. Neighbours in time are compared: other programs disturb both alike."""
    return statistics.median(ours / theirs for ours, theirs in zip(rates[one], rates[other], strict=True))


def _begin(directory: Path, number: int) -> None:
    own = directory / f"own-{number}"
    own.mkdir()
    _calls.update(guarded(_work, directory))
    _calls[EACH] = LIBRARIES[OURS].guard(_work, Setting(own))


def _names() -> list[str]:
    return [name for name in _calls if name != "cb, memory"]


def _count(name: str, begin: float) -> int:
    call, count, end = _calls[name], 0, begin + SECONDS
    time.sleep(max(begin - time.monotonic(), 0))
    while time.monotonic() < end:
        for _ in range(200):
            call()
        count += 200
    return count


def _rate_of_threads(call: Callable[[], object], calls: int) -> float:
    barrier = threading.Barrier(THREADS + 1)

    def run() -> None:
        barrier.wait()
        for _ in range(calls):
            call()
        barrier.wait()

    started = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in started:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - begin
    for thread in started:
        thread.join()
    return THREADS * calls / seconds


def _work() -> None:
    pass
