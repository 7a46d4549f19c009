"""Soak: `python -m tests.proofs.soak --minutes 3`. Exits with 1 on growth, a counter that decreases, or a 500."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.proofs.soak.run import Soak

#: minutes that suffice for a judged worker of each service
LONG_ENOUGH = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--directory", type=Path, help="where logs and databases are to stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        directory = given.directory or Path(temporary)
        directory.mkdir(exist_ok=True)
        report = Soak(directory, given.minutes * 60, given.seed).report()
    if given.minutes >= LONG_ENOUGH:
        report.problems += [
            f"{name}: no process has worked for long" for name, number in report.judged.items() if not number
        ]
    sys.stdout.write(f"seed {given.seed}, {report}\n")
    return int(bool(report.problems))


if __name__ == "__main__":
    sys.exit(main())
