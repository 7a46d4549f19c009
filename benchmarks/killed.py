"""Killed workers: the effect on other workers when they die in a hanging call, and in a probe."""

import math
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .peers import WORKERS, Library, Setting
from .result import Figure, Result, never
from .uvicorn_workers import NAMES, UVICORN, uvicorn_workers
from .valkey import server, wait_for
from .worker_pool import (
    ANSWERED,
    HANGS,
    REJECTED,
    attempt,
    attempt_until,
    dependency,
    open_all,
    wait_until,
    worker_pool,
)

FAILURES = 3
#: Seconds in OPEN, until the survivor calls, and of the longest wait.
TIMEOUT, DELAY, BOUND = 1.0, 2.0, 5.0


def killed(rounds: int = 2) -> Result:
    """Kill workers with SIGKILL, and measure another worker of the same host."""
    rows = {
        library.name: _row(partial(_in_calls, library), partial(_in_a_probe, library), rounds) for library in WORKERS
    }
    for name in NAMES:
        rows[name + UVICORN] = _row(partial(after_killed_requests, name), partial(after_killed_probe, name), rounds)
    columns = (f"{FAILURES} killed in hanging calls: the next call is", "killed in a probe: s until the next success")
    return Result(f"Killed workers; {FAILURES} failures open, for {TIMEOUT:g} s", (*columns, "worst"), rows)


def _row(in_calls: Callable[[], str], in_a_probe: Callable[[], float], rounds: int) -> tuple[Figure, ...]:
    spans: list[float] = []
    while len(spans) < rounds and math.inf not in spans:
        spans.append(in_a_probe())
    return in_calls(), never(statistics.median(spans), BOUND), never(max(spans), BOUND)


def _in_calls(library: Library) -> str:
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, FAILURES)
        with worker_pool(library, FAILURES + 1, setting) as workers:
            *hanging, survivor = workers.workers
            for worker in hanging:
                worker.send(_hang)
            wait_for(lambda: all(map(workers.hangs, hanging)))
            for worker in hanging:
                worker.kill()
            return str(survivor.call(_attempt_at, time.monotonic() + DELAY))


def _in_a_probe(library: Library) -> float:
    """Return the seconds from the kill until a call of the survivor succeeds."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, FAILURES, TIMEOUT)
        with worker_pool(library, 2, setting) as workers:
            workers.all(open_all)
            prober, survivor = workers.workers
            prober.send(_hang)
            wait_for(lambda: workers.hangs(prober), TIMEOUT + BOUND)
            prober.kill()
            begin = time.monotonic()
            answered: float = survivor.call(_until_answered, begin + BOUND)
            return answered - begin if answered < math.inf else math.inf


def after_killed_requests(name: str) -> str:
    """Return the outcome of a request after workers of uvicorn were killed in hanging ones."""
    with uvicorn_workers(name, FAILURES + 1, FAILURES) as workers:
        for pid in workers.hang(FAILURES):
            os.kill(pid, signal.SIGKILL)
        time.sleep(DELAY)
        return workers.call().outcome


def after_killed_probe(name: str) -> float:
    """Return the seconds from the kill of a worker of uvicorn in a probe until a request to the other one succeeds."""
    with uvicorn_workers(name, 2, FAILURES, TIMEOUT) as workers:
        workers.fail(True)
        workers.until_all_reject(2)
        workers.fail(False)
        [prober] = workers.hang(1)
        [survivor] = workers.pids - {prober}
        os.kill(prober, signal.SIGKILL)
        return workers.until_answered(survivor, BOUND)


def _hang() -> None:
    dependency().fails, dependency().seconds = False, HANGS
    while attempt() == REJECTED:
        time.sleep(0.005)


def _attempt_at(moment: float) -> str:
    wait_until(moment)
    return attempt()


def _until_answered(end: float) -> float:
    dependency().fails = False
    return attempt_until(ANSWERED, end, 0.005)
