"""How long it takes until all workers refuse, after the first one has."""

import math
import statistics
import tempfile
import time
from pathlib import Path

from .crew import FAILED, REFUSED, attempt, attempt_until, crew, dependency, wait_until
from .peers import WORKERS, Library, Setting
from .result import Result, never
from .valkey import server

COUNT = 4
#: seconds
BOUND, LOOK = 5.0, 0.002
#: seconds until a first call that was answered is known wherever it ever will be: it ends a streak of failures
SETTLED = 0.5
#: that nobody reaches by himself who looks every LOOK seconds until BOUND
THRESHOLD = 3_000


def propagation(rounds: int = 3) -> Result:
    """Let one worker come close to the threshold, then all call."""
    rows = {}
    for library in WORKERS:
        spans = []
        while len(spans) < rounds and math.inf not in spans:
            spans.append(_span(library) * 1000)
        rows[library.name] = (never(statistics.median(spans), BOUND), never(max(spans), BOUND))
    title = f"One of {COUNT} workers opens: until all of them refuse, looked at every {LOOK * 1000:.0f} ms"
    return Result(title, ("ms", "worst"), rows)


def _span(library: Library) -> float:
    """Return seconds from the first refusal in any worker to the first in the last worker."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, THRESHOLD)
        with crew(library, COUNT, setting, hosts=True) as workers:
            workers.workers[0].call(_come_close, time.monotonic() + SETTLED)
            refused = workers.all(_look)
    return max(refused) - min(refused)


def _come_close(start: float) -> None:
    wait_until(start)
    dependency().fails = True
    for _ in range(THRESHOLD - 1):
        if (outcome := attempt()) != FAILED:
            raise RuntimeError(f"{outcome} before the threshold")


def _look(start: float) -> float:
    dependency().fails = True
    wait_until(start)
    return attempt_until(REFUSED, start + BOUND, LOOK)
