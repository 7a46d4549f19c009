"""Run all benchmarks, or the named ones: print tables, write run/bench.json, and fail if a limit is exceeded.

`--quick` runs each benchmark once, to check that it works: its figures are not meaningful. `python -m
benchmarks.report` generates the documentation from the written file.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from . import (
    asynchronous,
    bulkhead,
    call_cost,
    contention,
    end_to_end,
    environment,
    http,
    httpx_transport,
    killed,
    leak,
    metrics,
    outage,
    page,
    propagation,
    recovery,
    remote,
    tracing,
)
from .result import Result
from .table import show

WRITTEN = Path("run/bench.json")
#: Benchmarks that compare libraries; their argument is the number of rounds.
COMPARED: dict[str, Callable[..., Result]] = {
    "success": call_cost.success,
    "rejection": call_cost.rejection,
    "async": asynchronous.asynchronous,
    "threads": contention.threads,
    "processes": contention.processes,
    "leak": leak.leak,
    "propagation": propagation.propagation,
    "recovery": recovery.recovery,
    "killed": killed.killed,
    "remote": remote.remote,
    "outage": outage.outage,
    "end_to_end": end_to_end.end_to_end,
}
#: Benchmarks of this library alone.
ALONE: dict[str, Callable[[], Result]] = {
    "bulkhead": bulkhead.cost,
    "http": http.adapter,
    "httpx": httpx_transport.transport,
    "metrics": metrics.scrape,
    "page": page.poll,
    "tracing": tracing.tracing,
}


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*COMPARED, *ALONE)))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - {*COMPARED, *ALONE}:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    names = asked.names or (*COMPARED, *([] if asked.quick else ALONE))
    if "end_to_end" in names and not shutil.which("wrk"):  # before the first one runs, not after minutes
        parser.error("end_to_end needs wrk, which is not installed (on Debian: apt install wrk)")
    console = Console(width=140)
    # Before any benchmark runs: the load of the machine must be that of other programs.
    report = {"environment": environment.describe(), "quick": asked.quick}
    results = {}
    WRITTEN.parent.mkdir(exist_ok=True)
    for name in names:
        results[name] = _run(name, quick=asked.quick)
        show(results[name], console)
        report["results"] = {name: asdict(result) for name, result in results.items()}
        WRITTEN.write_text(json.dumps(report, indent=2) + "\n")  # each time: a later one may fail
    print(f"written to {WRITTEN}")
    met = all(check.met for result in results.values() for check in result.checks)
    return 0 if met or asked.quick else 1


def _run(name: str, *, quick: bool) -> Result:
    """Run a benchmark in a process of its own: threads that it leaves running must not disturb the next one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(COMPARED.get(name) or ALONE[name], *([1] if quick and name in COMPARED else [])).result()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
