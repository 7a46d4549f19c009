"""How many calls try a dependency that has come back, and how soon all workers use it again."""

import math
import statistics
import tempfile
import time
from pathlib import Path

from .crew import attempt, crew, dependency, open_all, wait_until
from .peers import WORKERS, Library, Setting
from .result import Result, never
from .valkey import server

COUNT = 8
#: seconds in OPEN, that a call takes, and that are waited for at most after that
TIMEOUT, TAKES, BOUND = 2.0, 0.1, 5.0


def recovery(rounds: int = 2) -> Result:
    """Open all workers, let the dependency come back, and have them call all the time."""
    rows = {}
    for library in WORKERS:
        probes, spans = zip(*[_round(library) for _ in range(rounds)], strict=True)
        rows[library.name] = (
            float(max(probes)),
            never(statistics.median(spans) * 1000, BOUND),
            never(max(spans) * 1000, BOUND),
        )
    title = f"{COUNT} workers when a dependency comes back whose calls take {TAKES * 1000:.0f} ms; one success closes"
    return Result(title, ("calls before the first answer", "ms until all call again", "worst"), rows)


def _round(library: Library) -> tuple[int, float]:
    """Return the calls that began before any was answered, and seconds from then until each worker had made one."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, failures=3, timeout=TIMEOUT)
        with crew(library, COUNT, setting, hosts=True) as workers:
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
