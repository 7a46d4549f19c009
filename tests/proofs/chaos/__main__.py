"""Chaos: `python -m tests.proofs.chaos --seconds 60 --seed 5 --database postgresql`. Exits 1 on a broken invariant."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.proofs.chaos.bugs import BUGS
from tests.proofs.chaos.run import Run

DATABASES = ("sqlite", "postgresql")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of faults; with a bug, at most")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--directory", type=Path, help="where logs and SQLite's databases are to stay")
    parser.add_argument("--bug", choices=list(BUGS), help="start the services with a bug, which must be found")
    parser.add_argument("--bugs", action="store_true", help="plant each bug in turn; ends with 0 if all were found")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        directory = given.directory or Path(temporary)
        bugs: list[str | None] = list(BUGS) if given.bugs else [given.bug]
        unseen = 0
        for bug in bugs:
            own = directory / (bug or "none")
            own.mkdir(parents=True)
            report = Run(own, seconds=given.seconds, seed=given.seed, database=given.database, bug=bug).report()
            unseen += not report.broken
            found = f"broke {', '.join(report.broken)}" if report.broken else "was NOT found"
            line = f"{bug or '':24}{found} after {report.lasted:.1f} s, seed {report.seed}, {report.database}"
            sys.stdout.write(f"{line if given.bugs else report}\n")
            sys.stdout.flush()
    return int(unseen > 0) if given.bugs else int(unseen == 0)


if __name__ == "__main__":
    sys.exit(main())
