"""Probes of a recovered dependency, and the time until all workers use it again."""

import math
import statistics
import tempfile
import time
from pathlib import Path

from .peers import WORKERS, Library, Setting
from .result import Result, never
from .valkey import server
from .worker_pool import attempt, dependency, open_all, wait_until, worker_pool

COUNT = 8
#: Seconds in OPEN, of a call, and of the longest wait after that.
TIMEOUT, TAKES, BOUND = 2.0, 0.1, 5.0


def recovery(rounds: int = 2) -> Result:
    """Open the circuits of all workers, let the dependency recover, and call continuously."""
    rows = {}
    for library in WORKERS:
        probes, spans = zip(*[_round(library) for _ in range(rounds)], strict=True)
        rows[library.name] = (
            float(max(probes)),
            never(statistics.median(spans) * 1000, BOUND),
            never(max(spans) * 1000, BOUND),
        )
    title = f"{COUNT} workers when a dependency recovers; its calls take {TAKES * 1000:.0f} ms, one success closes"
    return Result(title, ("calls before the first success", "ms until all call again", "worst"), rows)


def _round(library: Library) -> tuple[int, float]:
    """Return the calls begun before the first success, and the seconds from then until each worker has made one."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, failures=3, timeout=TIMEOUT)
        with worker_pool(library, COUNT, setting, hosts=True) as workers:
            workers.all(open_all)
            reached = workers.all(_call)
    answered = min((end for calls in reached for _, end in calls), default=math.inf)
    probes = sum(begin < answered for calls in reached for begin, _ in calls)
    last = max(min((begin for begin, _ in calls), default=math.inf) for calls in reached)
    return probes, max(last - answered, 0.0) if answered < math.inf else math.inf


def _call(start: float) -> list[tuple[float, float]]:
    here = dependency()
    here.fails, here.seconds = False, TAKES
    here.reached.clear()
    wait_until(start)
    end = start + TIMEOUT + BOUND
    while time.monotonic() < end and len(here.reached) < 2:
        attempt()
        time.sleep(0.001)
    return here.reached
