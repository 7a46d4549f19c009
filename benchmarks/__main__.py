"""Run the benchmarks, or those named: print tables, write run/bench.json, and fail if a limit is missed."""

import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from . import bulkhead, call_cost, contention, http, leak, metrics, page, remote, tracing
from .table import show

PEERS = ("circuitbreaker", "interlock-cb", "pybreaker")
BENCHMARKS = {
    "success": call_cost.success,
    "rejection": call_cost.rejection,
    "bulkhead": bulkhead.cost,
    "threads": contention.threads,
    "processes": contention.processes,
    "leak": leak.leak,
    "remote": remote.remote,
    "http": http.adapter,
    "metrics": metrics.scrape,
    "page": page.poll,
    "tracing": tracing.tracing,
}


def main(names: list[str]) -> int:
    """Return the exit code."""
    console = Console(width=120)
    results = {}
    for name in names or BENCHMARKS:
        results[name] = BENCHMARKS[name]()
        show(results[name], console)
    report = {
        "python": platform.python_version(),
        "peers": {peer: version(peer) for peer in PEERS},
        "results": {name: asdict(result) for name, result in results.items()},
    }
    Path("run").mkdir(exist_ok=True)
    text = json.dumps(report, indent=2)
    Path("run/bench.json").write_text(text + "\n")
    print(text)
    return 0 if all(check.met for result in results.values() for check in result.checks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
