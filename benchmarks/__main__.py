"""Run the benchmarks, or those named: print tables, write run/bench.json, and fail if a limit is missed.

`--quick` runs each once, to see that it works: its figures say nothing. `python -m benchmarks.report` makes the
documentation of what was written.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from . import (
    bulkhead,
    call_cost,
    contention,
    end_to_end,
    http,
    killed,
    leak,
    metrics,
    outage,
    page,
    propagation,
    recovery,
    remote,
    surroundings,
    tracing,
)
from .result import Result
from .table import show

WRITTEN = Path("run/bench.json")
#: against other libraries, in so many rounds as they are told
COMPARED: dict[str, Callable[..., Result]] = {
    "success": call_cost.success,
    "rejection": call_cost.rejection,
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
ALONE: dict[str, Callable[[], Result]] = {
    "bulkhead": bulkhead.cost,
    "http": http.adapter,
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
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    console = Console(width=140)
    # Before anything runs: how busy the machine is with other things.
    report = {"surroundings": surroundings.look(), "quick": asked.quick}
    results = {}
    for name in asked.names or (*COMPARED, *([] if asked.quick else ALONE)):
        results[name] = _run(name, quick=asked.quick)
        show(results[name], console)
    report["results"] = {name: asdict(result) for name, result in results.items()}
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text(json.dumps(report, indent=2) + "\n")
    print(f"written to {WRITTEN}")
    met = all(check.met for result in results.values() for check in result.checks)
    return 0 if met or asked.quick else 1


def _run(name: str, *, quick: bool) -> Result:
    """Run a benchmark in a process of its own: what one has left running must not disturb the next."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(COMPARED.get(name) or ALONE[name], *([1] if quick and name in COMPARED else [])).result()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
