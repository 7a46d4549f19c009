"""Effect of a failed Redis server on calls: killed, and frozen with open connections."""

import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from .peers import LIBRARIES, OURS, WITH_REDIS, Library, Setting
from .result import Figure, Result
from .valkey import server
from .worker_pool import ANSWERED, REJECTED, attempt, attempt_until, dependency, worker_pool

#: Calls of a round, and seconds for them.
CALLS, SECONDS = 200, 1.0
FAILURES = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}


def outage(rounds: int = 3) -> Result:
    """Stop the server while a worker calls a healthy dependency for some rounds, then a dead one."""
    rows: dict[str, tuple[Figure, ...]] = {}
    for library in (LIBRARIES[OURS], *WITH_REDIS):
        for way, number in FAILURES.items():
            rows[f"{library.name}: {way}"] = (
                *_stopped(library, number, rounds * SECONDS),
                _made_without(library, number),
            )
    columns = ("ms a call", "worst", "calls", "a dead dependency", "a worker that starts then")
    return Result("Redis stops", columns, rows)


def _stopped(library: Library, number: int, seconds: float) -> tuple[Figure, ...]:
    with (
        tempfile.TemporaryDirectory() as directory,
        server() as (pid, url),
        worker_pool(library, 1, Setting(Path(directory), url)) as workers,
    ):
        os.kill(pid, number)
        return workers.workers[0].call(_call, seconds)  # type: ignore[no-any-return]  # as annotated at _call


def _call(seconds: float) -> tuple[Figure, ...]:
    end = time.monotonic() + seconds
    spans, outcomes = [], Counter[str]()
    while len(spans) < CALLS and time.monotonic() < end:
        begin = time.perf_counter()
        outcomes[attempt()] += 1
        spans.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.002)
    dependency().fails = True
    opens = attempt_until(REJECTED, time.monotonic() + 2 * seconds)
    called = f"{len(spans)} answered" if set(outcomes) == {ANSWERED} else _shares(outcomes)
    dead = "is rejected after a while" if opens < float("inf") else f"not rejected within {2 * seconds:.0f} s"
    return statistics.median(spans), max(spans), called, dead


def _shares(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())


def _made_without(library: Library, number: int) -> str:
    with tempfile.TemporaryDirectory() as directory, server() as (pid, url):
        os.kill(pid, number)
        try:
            with worker_pool(library, 1, Setting(Path(directory), url)) as workers:
                return str(workers.workers[0].call(attempt))
        except Exception as error:  # noqa: BLE001 - with any error, the worker does not start
            return f"raises {type(error).__name__}"
