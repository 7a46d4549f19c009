"""Time from the first rejection in any worker until all workers reject."""

import math
import statistics
import tempfile
import time
from pathlib import Path

from .peers import WORKERS, Library, Setting
from .result import Result, never
from .valkey import server
from .worker_pool import FAILED, REJECTED, attempt, attempt_until, dependency, wait_until, worker_pool

COUNT = 4
#: Seconds: of the longest wait, and between two calls.
BOUND, PAUSE = 5.0, 0.002
#: Seconds until other workers have seen a first successful call, which ends a streak of failures.
SETTLED = 0.5
#: Failures that open: more than a worker can make alone with a call every PAUSE seconds until BOUND.
THRESHOLD = 3_000


def propagation(rounds: int = 3) -> Result:
    """Let one worker make all failures but one, then let all workers call."""
    rows = {}
    for library in WORKERS:
        spans = []
        while len(spans) < rounds and math.inf not in spans:
            spans.append(_span(library) * 1000)
        rows[library.name] = (never(statistics.median(spans), BOUND), never(max(spans), BOUND))
    title = f"One of {COUNT} workers opens: time until all reject, with a call every {PAUSE * 1000:.0f} ms"
    return Result(title, ("ms", "worst"), rows)


def _span(library: Library) -> float:
    """Return the seconds from the first rejection in any worker to the first in the last worker."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, THRESHOLD)
        with worker_pool(library, COUNT, setting, hosts=True) as workers:
            workers.workers[0].call(_come_close, time.monotonic() + SETTLED)
            rejected = workers.all(_call)
    return max(rejected) - min(rejected)


def _come_close(start: float) -> None:
    wait_until(start)
    dependency().fails = True
    for _ in range(THRESHOLD - 1):
        if (outcome := attempt()) != FAILED:
            raise RuntimeError(f"{outcome} before the threshold")


def _call(start: float) -> float:
    dependency().fails = True
    wait_until(start)
    return attempt_until(REJECTED, start + BOUND, PAUSE)
