"""Tables and texts that the command prints."""

import shlex
from collections.abc import Sequence
from datetime import datetime

from cb.clocks import wall
from cb.failures import LastFailure
from cb.states import HELD, State

from .ledgers import LedgerReport, Survey

HEADINGS = ("LEDGER", "BREAKER", "STATE", "FOR", "CALLS", "FAILED", "SLOW", "RUNNING", "WHY")
#: in the column STATE, for a breaker of a retired ledger
RETIRED = "RETIRED"
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def rows(survey: Survey) -> list[tuple[str, ...]]:
    """Return a row for each breaker, with the columns of HEADINGS; those of retired ledgers are marked."""
    return [
        (
            each.name,
            name,
            RETIRED if each.retired else seen.state.value,
            age(seen.age if each.retired_since is None else wall() - each.retired_since),
            str(seen.window.requests),
            f"{seen.window.failure_rate:.0%}",
            f"{seen.window.slow_call_rate:.0%}",
            str(seen.in_flight),
            reason(each, name),
        )
        for each in survey.ledgers
        for name, seen in sorted(each.breakers.items())
    ]


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as columns."""
    cells = [[plain(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in padded)


def retirement(report: LedgerReport) -> str:
    """Return a line about a retired ledger: since when, and the command that removes it."""
    forget = shlex.join(["cb", "forget", report.selector])
    return f"{report.name}: retired since {clock(report.retired_since or 0)}, no live worker; to remove it: {forget}"


def reason(report: LedgerReport, name: str) -> str:
    """Return the reason for the state of a breaker, in the past tense if its ledger is retired."""
    why = report.breakers[name].why
    return f"was {why}" if report.retired else why


def failure(failed: LastFailure) -> str:
    """Return a line about the last failure."""
    return f"last failure {age(failed.ago)} ago: {failed}"


def advice(report: LedgerReport, name: str, *, select: bool) -> list[str]:
    """Return lines that say what an operator can do about a breaker, by commands that `select` its ledger."""
    state = report.breakers[name].state
    if report.retired:
        return [retirement(report)]
    where = ["--ledger", report.selector] if select else []
    if state is State.OPEN:
        admit = shlex.join(["cb", "metrics-only", name, *where, "--for", "1h", "--reason", "..."])
        return [f"next: repair {name}; the circuit closes by itself after its probes. If the circuit is wrong: {admit}"]
    if state is State.HALF_OPEN:
        return ["next: wait for the probes; if they fail, repair the dependency"]
    if state in HELD:
        effect = "admit" if state is State.FORCED_OPEN else "guard"
        return [f"next: to {effect} calls again: {shlex.join(['cb', 'reset', name, *where, '--reason', '...'])}"]
    return []


def plain(text: str) -> str:
    """Return text without control characters of a terminal: names and reasons may come from other programs."""
    return "".join(char if char.isprintable() else "?" for char in text)


def age(seconds: float) -> str:
    """Return seconds in their largest unit: 5s, 3m, 2h, 4d."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), ("s", 1))
    return f"{int(max(seconds, 0) // size)}{unit}"


def clock(at: float) -> str:
    """Return a time since the epoch in the time zone of this host, with its offset: 2026-12-01 03:04:05+01:00."""
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")
    except (OverflowError, OSError, ValueError):  # of a damaged file, or a span of many years
        return f"{at:.0f} s since 1970"
