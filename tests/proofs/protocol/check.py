"""Runs the models of this directory through spin: `python -m tests.proofs.protocol.check`. Explained in README.md."""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import which

HERE = Path(__file__).parent
#: megabytes and seconds that one search may use
MEMORY, PATIENCE = 2000, 300
HOLDS = "holds"
#: a failed assertion, as written in the model
ASSERTION = re.compile(r"pan:\d+: (?:assertion violated \((.*)\)|(.*?)) \(at depth")


@dataclass(frozen=True)
class Variant:
    """One search: a model with its -D options, and the expected verdict."""

    model: str
    options: str
    kind: str  # proof, mutant or finding
    expected: str = HOLDS  # else a part of the assertion that must fail
    short: bool = False  # whether the tests run it too
    long: bool = False  # whether its checker is worth optimising

    @property
    def name(self) -> str:
        return f"{self.model} {self.options}".strip()


@dataclass(frozen=True)
class Result:
    """The verdict of a search."""

    variant: Variant
    states: int
    depth: int
    seconds: float
    said: str

    @property
    def right(self) -> bool:
        """True if the verdict is the expected one."""
        if self.variant.expected == HOLDS:
            return self.said == HOLDS
        return self.said.startswith("fails: ") and self.variant.expected in self.said


# What the assertions that fail look like in the words of the checker.
PERMITS = "out-votes_back)<="
OTHER_VOTES = "<=votes_"
WEDGED = "tries<10"
LOCKED = "lock==me"
STALE = "(word>>2)==g"
WRITERS = "writer["
VOTES = "back)<=out"
LEAK = "(good+bad)>="
PHANTOM = "running["
PROBE_TWICE = "counted[0]<=begun[0]"
PROBE_LOST = "counted[0]>=begun[0]"
TWICE = "counted[k]<=begun[k]"
LOST = "counted[k]>=begun[k]"
OWNED = "owners[k]"

VARIANTS = (
    Variant("circuit", "CALLS=1", "proof", short=True),
    Variant("circuit", "CALLS=1 NEED=2", "proof"),
    Variant("circuit", "CALLS=1 KILLS=2", "proof", long=True),
    Variant("circuit", "CALLS=1 STOPS=1", "proof", long=True),
    Variant("circuit", "CALLS=1 OPERATOR", "proof", long=True),
    Variant("circuit", "CALLS=2 MAX=1", "proof", long=True),
    Variant("circuit", "START=HALF_OPEN CALLS=2 LAST=3", "proof", long=True),
    Variant("circuit", "START=HALF_OPEN CALLS=1 SUCCESSORS=1 SUCCESSOR_CALLS=0 LAST=2", "proof", long=True),
    Variant("circuit", "START=CLOSED CALLS=1 FAILURES=2", "proof"),
    Variant("circuit", "START=CLOSED CALLS=2", "proof", long=True),
    Variant("circuit", "START=CLOSED CALLS=1 SUCCESSORS=1 LAST=3", "proof", long=True),
    Variant("handover", "WORKERS=2", "proof", short=True),
    Variant("handover", "WORKERS=2 RETURNS=1", "proof", long=True),
    Variant("handover", "WORKERS=2 RETURNS=1 PEEKS=0 REAPS=0", "proof"),
    Variant("handover", "PEEKS=0 REAPS=0", "proof"),
    Variant("handover", "PEEKS=0 KILLS=1", "proof", long=True),
    Variant("circuit", "CALLS=1 OPERATOR OLD_DUE", "mutant", WEDGED),
    Variant("circuit", "CALLS=1 OLD_STREAK", "mutant", OTHER_VOTES, short=True),
    Variant("circuit", "CALLS=1 OLD_PERMIT", "mutant", VOTES),
    Variant("circuit", "CALLS=1 NO_REAPING", "mutant", LEAK),
    Variant("circuit", "CALLS=1 STOPS=1 NO_OVERDUE", "mutant", LEAK),
    Variant("circuit", "CALLS=1 NO_ROUND_TAG", "mutant", OTHER_VOTES),
    Variant("circuit", "CALLS=2 STALE_TAKEN", "mutant", VOTES),
    Variant("circuit", "CALLS=1 NO_REEVALUATE", "mutant", STALE),
    Variant("circuit", "CALLS=1 ENTER_WITHOUT_LOCK", "mutant", LOCKED),
    Variant("circuit", "START=HALF_OPEN CALLS=1 MAX=1 PERMIT_OUTSIDE_LOCK", "mutant", PERMITS),
    Variant("circuit", "CALLS=1 LOCK_OUTLIVES_HOLDER", "mutant", WEDGED),
    Variant("circuit", "START=CLOSED CALLS=1 SUCCESSORS=1 ADOPT_WITHOUT_CLAIM", "mutant", WRITERS),
    Variant("handover", "WORKERS=2 ADOPT_WITHOUT_CLAIM", "mutant", WRITERS),
    Variant("handover", "WORKERS=2 SUCCESSOR_DOES_NOT_ADOPT", "mutant", LOST),
    Variant("handover", "WORKERS=2 STARTED_CLEARED_FIRST", "mutant", LOST, short=True),
    Variant("handover", "WORKERS=2 OWNER_BEFORE_ADOPTION", "mutant", LOST),
    Variant("handover", "PEEKS=0 OWNER_AFTER_GIVE_UP", "mutant", OWNED),
    Variant("handover", "WORKERS=2 RETURNS=1 RETURN_LOCK_FIRST", "mutant", OWNED, short=True),
    Variant("handover", "WORKERS=2 RETURNS=1 RETURN_WHILE_RUNNING", "mutant", LOST),
    # What the code does not hold, and what would make it hold.
    Variant("circuit", "START=HELD CALLS=1", "finding", WEDGED),
    Variant("circuit", "START=HELD CALLS=1 OPERATOR FIX_UNTIL", "proof"),
    Variant("circuit", "START=HALF_OPEN CALLS=2 MAX=1 LAST=4 NO_PHANTOM", "finding", PHANTOM),
    Variant("circuit", "START=HALF_OPEN CALLS=2 MAX=1 LAST=4 NO_PHANTOM FIX_PHANTOM", "proof", long=True),
    Variant(
        "circuit",
        "START=HALF_OPEN CALLS=1 MAX=1 SUCCESSORS=1 SUCCESSOR_CALLS=0 LAST=2 KILLS=2 TOTALS",
        "finding",
        PROBE_LOST,
    ),
    Variant(
        "circuit",
        "START=HALF_OPEN CALLS=1 MAX=1 SUCCESSORS=1 SUCCESSOR_CALLS=0 LAST=2 KILLS=2 TOTALS FIX_ORDER",
        "proof",
        long=True,
    ),
    Variant("circuit", "START=HALF_OPEN CALLS=1 LAST=2 TOTALS ONE_COUNT", "finding", PROBE_TWICE),
    Variant("handover", "WORKERS=2 P6_ONE_COUNT", "finding", TWICE),
)


def missing() -> str | None:
    """Return the programs that must be installed first, or None."""
    tools = [tool for tool in ("spin", "gcc") if which(tool) is None]
    return f"install the packages {' and '.join(tools)}, then run `make prove`" if tools else None


def search(variant: Variant) -> Result:
    """Make the checker of a variant and let it visit every state."""
    begin = time.perf_counter()
    options = [f"-D{option}" for option in variant.options.split()]
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "model.pml").write_text((HERE / f"{variant.model}.pml").read_text())
        _run(place, "spin", "-a", *options, "model.pml")
        _run(
            place,
            "gcc",
            "-O1" if variant.long else "-O0",
            "-w",
            "-DSAFETY",
            "-DCOLLAPSE",
            f"-DMEMLIM={MEMORY}",
            "-o",
            "pan",
            "pan.c",
        )
        try:
            output = _run(place, "./pan", "-m100000")
        except subprocess.TimeoutExpired:
            return Result(variant, 0, 0, PATIENCE, f"not finished in {PATIENCE} s")
    states = re.search(r"(\d+) states, stored", output)
    depth = re.search(r"depth reached (\d+)", output)
    return Result(
        variant,
        int(states[1]) if states else 0,
        int(depth[1]) if depth else 0,
        time.perf_counter() - begin,
        _verdict(output),
    )


def _verdict(output: str) -> str:
    if failed := ASSERTION.search(output):
        return f"fails: {failed[1] or failed[2]}"
    complete = "errors: 0" in output and "Search not completed" not in output and "max search depth" not in output
    return HOLDS if complete else "not complete: out of memory or depth"


def _run(place: str, *command: str) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode and command[0] != "./pan":
        raise RuntimeError(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def check(variants: Sequence[Variant], jobs: int = 1) -> Iterator[Result]:
    """Yield the result of each variant, in order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(search, variants)


def main() -> int:
    """Print a table of all variants. Return 1 if one has not come out as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="run only what the tests run")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time, each of up to 2 GB")
    arguments = parser.parse_args()
    if lack := missing():
        sys.stdout.write(f"{lack}\n")
        return 1
    wrong, begin = 0, time.perf_counter()
    row = "{:8} {:92} {:>11} {:>6} {:>8}  {}\n"
    sys.stdout.write(row.format("kind", "variant", "states", "depth", "seconds", "result"))
    for result in check([variant for variant in VARIANTS if variant.short or not arguments.short], arguments.jobs):
        wrong += not result.right
        said, variant = result.said if result.right else f"UNEXPECTED: {result.said}", result.variant
        cells = f"{result.states:,}", result.depth, f"{result.seconds:.1f}", said
        sys.stdout.write(row.format(variant.kind, variant.name, *cells))
        sys.stdout.flush()
    sys.stdout.write(f"{wrong} unexpected, {time.perf_counter() - begin:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
