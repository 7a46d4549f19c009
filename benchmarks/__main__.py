"""Print the costs as a table, write them to run/bench.json, and fail if a ratio is above its limit."""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import call_cost

PEERS = ("circuitbreaker", "interlock-cb", "pybreaker")


def main() -> int:
    costs = call_cost.measure()
    table = Table(title="A decorated call that succeeds (median ns)", caption=f"Python {platform.python_version()}")
    for heading in ("library", "ns", "times circuitbreaker", "times interlock"):
        table.add_column(heading, justify="left" if heading == "library" else "right")
    for name, cost in sorted(costs.items(), key=lambda item: item[1]):
        times = (f"{cost / costs[peer]:.2f}" for peer in ("circuitbreaker", "interlock"))
        table.add_row(name, f"{cost:.0f}", *times)
    Console(width=100).print(table)
    ratios = {peer: costs["cb, file ledger"] / costs[peer] for peer in call_cost.LIMITS}
    report = {
        "python": platform.python_version(),
        "peers": {peer: version(peer) for peer in PEERS},
        "nanoseconds": costs,
        "ratios": ratios,
        "limits": call_cost.LIMITS,
    }
    Path("run").mkdir(exist_ok=True)
    Path("run/bench.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    missed = [peer for peer, limit in call_cost.LIMITS.items() if ratios[peer] > limit]
    for peer in missed:
        print(f"{ratios[peer]:.2f} times {peer}, at most {call_cost.LIMITS[peer]} wanted", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
