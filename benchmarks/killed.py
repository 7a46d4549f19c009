"""What a breaker learns of a worker that is killed: in calls that hang, and in the one that tries a circuit."""

import math
import statistics
import tempfile
import time
from pathlib import Path

from .crew import ANSWERED, HANGS, REFUSED, attempt, attempt_until, crew, dependency, open_all, wait_until
from .peers import WORKERS, Library, Setting
from .result import Figure, Result, never
from .valkey import server, wait_for

FAILURES = 3
#: seconds in OPEN, until a survivor is asked, and that are waited for at most
TIMEOUT, PATIENCE, BOUND = 1.0, 2.0, 5.0


def killed(rounds: int = 2) -> Result:
    """Kill workers with SIGKILL, and see what another one of the same host does then."""
    rows: dict[str, tuple[Figure, ...]] = {}
    for library in WORKERS:
        spans: list[float] = []
        while len(spans) < rounds and math.inf not in spans:
            spans.append(_in_a_probe(library))
        rows[library.name] = (_in_calls(library), never(statistics.median(spans), BOUND), never(max(spans), BOUND))
    columns = (f"{FAILURES} killed in calls that hang: the next is", "killed as it probes: s until the next answer")
    return Result(f"Workers that are killed; {FAILURES} failures open, for {TIMEOUT:g} s", (*columns, "worst"), rows)


def _in_calls(library: Library) -> str:
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, FAILURES)
        with crew(library, FAILURES + 1, setting) as workers:
            *hanging, survivor = workers.workers
            for worker in hanging:
                worker.send(_hang)
            wait_for(lambda: all(map(workers.hangs, hanging)))
            for worker in hanging:
                worker.kill()
            return str(survivor.call(_ask, time.monotonic() + PATIENCE))


def _in_a_probe(library: Library) -> float:
    """Return seconds from the kill until a call of the survivor is answered."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, FAILURES, TIMEOUT)
        with crew(library, 2, setting) as workers:
            workers.all(open_all)
            prober, survivor = workers.workers
            prober.send(_hang)
            wait_for(lambda: workers.hangs(prober), TIMEOUT + BOUND)
            prober.kill()
            begin = time.monotonic()
            answered: float = survivor.call(_until_answered, begin + BOUND)
            return answered - begin if answered < math.inf else math.inf


def _hang() -> None:
    dependency().fails, dependency().seconds = False, HANGS
    while attempt() == REFUSED:
        time.sleep(0.005)


def _ask(moment: float) -> str:
    wait_until(moment)
    return attempt()


def _until_answered(end: float) -> float:
    dependency().fails = False
    return attempt_until(ANSWERED, end, 0.005)
