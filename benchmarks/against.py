"""Compare this checkout with another one: `python -m benchmarks.against DIR`, alternating, in one run.

Runs the named benchmarks in both checkouts, `--rounds` times in turn, and prints the first figure of every row of this
library: the best of all rounds, and their ratio. Both checkouts need this interpreter's packages.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
#: benchmarks of which docs/benchmarks.md gives figures that a change must keep
NAMES = ("success", "rejection", "threads", "processes", "leak", "metrics", "page")
#: rows of other libraries
PEERS = ("circuitbreaker", "interlock", "purgatory", "pybreaker", "pyresilience", "no breaker")

#: figure with the names of its row and column, by benchmark and position: names may differ between the checkouts
Figures = dict[tuple[str, int, int], tuple[str, str, float]]


def main(arguments: list[str]) -> int:
    """Return the exit code. Raises RuntimeError for a checkout whose benchmarks cannot run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("directory", type=Path, help="the other checkout")
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args(arguments)
    found: dict[Path, list[Figures]] = {asked.directory.resolve(): [], ROOT: []}
    for _ in range(asked.rounds):
        for checkout, rounds in found.items():
            rounds.append(_run(checkout, asked.names))
    before, after = found.values()
    _show(before, after)
    return 0


def _run(checkout: Path, names: list[str]) -> Figures:
    written = checkout / "run" / "bench.json"
    written.unlink(missing_ok=True)  # else a run that fails would be read as the one before
    subprocess.run([sys.executable, "-m", "benchmarks", *names], cwd=checkout, stdout=subprocess.DEVNULL, check=False)
    if not written.exists():
        raise RuntimeError(f"the benchmarks of {checkout} have not run")
    results = json.loads(written.read_text())["results"]
    return {
        (name, down, across): (row, column, figure)
        for name, result in results.items()
        for down, (row, figures) in enumerate(result["rows"].items())
        if not row.startswith(PEERS)
        for across, (column, figure) in enumerate(zip(result["columns"], figures, strict=True))
        if isinstance(figure, int | float)
    }


def _show(before: list[Figures], after: list[Figures]) -> None:
    table = Table("benchmark", "row", "column", "other", "here", "here / other")
    for key, (row, column, _) in after[0].items():
        if key not in before[0]:
            continue  # a figure that only this checkout has
        best = max if "a second" in column else min
        old, new = (best(figures[key][2] for figures in rounds) for rounds in (before, after))
        table.add_row(key[0], row, column, f"{old:,.3f}", f"{new:,.3f}", f"{new / old:.3f}" if old else "")
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
