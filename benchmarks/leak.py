"""Number of calls that reach a dead dependency before every worker rejects them."""

import tempfile
from pathlib import Path

from .peers import OURS, WORKERS, Library, Setting
from .result import Check, Result
from .uvicorn_workers import NAMES, UVICORN, uvicorn_workers
from .valkey import server
from .worker_pool import REJECTED, attempt_until, dependency, wait_until, worker_pool

THRESHOLD = 10
COUNTS = (1, 2, 4, 8)


def leak(rounds: int = 10, peers: int = 3) -> Result:
    """Let 1, 2, 4 and 8 processes call at once until a call of each is rejected. Return the worst round.

    With workers of uvicorn, as many clients send requests until each worker has rejected one.
    """
    rows = {
        library.name: tuple(
            float(max(_reached(library, count) for _ in range(rounds if library.name == OURS else peers)))
            for count in COUNTS
        )
        for library in WORKERS
    }
    for name in NAMES:
        rows[name + UVICORN] = tuple(
            float(max(reached_by_requests(name, count) for _ in range(peers if name == OURS else 1)))
            for count in COUNTS
        )
    checks = [
        Check(f"calls that reach it from {count}{name.removeprefix(OURS)}", row[place], THRESHOLD + count - 1)
        for name, row in rows.items()
        if name in (OURS, OURS + UVICORN)
        for place, count in enumerate(COUNTS)
    ]
    title = f"Calls that reach a dead dependency, {THRESHOLD} consecutive failures open"
    ours = {name: rows[OURS + UVICORN if name.endswith(UVICORN) else OURS][-1] for name in rows}
    ratios = {name: (*values, f"{values[-1] / ours[name]:.2f}x") for name, values in rows.items()}
    columns = (*(f"{count} workers" if count > 1 else "1 worker" for count in COUNTS), f"{COUNTS[-1]}, ours = 1")
    return Result(title, columns, ratios, checks)


def _reached(library: Library, count: int) -> int:
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url, THRESHOLD)
        with worker_pool(library, count, setting, hosts=True) as workers:
            return sum(workers.all(_call))


def reached_by_requests(name: str, count: int) -> int:
    """Return the number of calls that requests to that many workers of uvicorn made before each has rejected one."""
    with uvicorn_workers(name, count, THRESHOLD) as workers:
        workers.fail(True)
        return workers.until_all_reject(count)


def _call(start: float) -> int:
    # The duration of a failed connection: calls of all processes overlap.
    dependency().fails, dependency().seconds = True, 0.002
    wait_until(start)
    if attempt_until(REJECTED, start + 10) == float("inf"):
        raise TimeoutError("no call was rejected within 10 s")
    return len(dependency().reached)
