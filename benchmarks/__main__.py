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
        ratios = (f"{cost / costs[peer]:.2f}" for peer in ("circuitbreaker", "interlock"))
        table.add_row(name, f"{cost:.0f}", *ratios)
    Console(width=100).print(table)
    limits = [
        {"what": what, "peer": peer, "ratio": costs[what] / costs[peer], "limit": limit}
        for what, peer, limit in call_cost.LIMITS
    ]
    report = {
        "python": platform.python_version(),
        "peers": {peer: version(peer) for peer in PEERS},
        "nanoseconds": costs,
        "limits": limits,
    }
    Path("run").mkdir(exist_ok=True)
    Path("run/bench.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    missed = [limit for limit in limits if limit["ratio"] > limit["limit"]]
    for limit in missed:
        print("{what}: {ratio:.2f} times {peer}, at most {limit} wanted".format(**limit), file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
