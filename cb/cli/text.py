"""Tables and texts that the command prints."""

from collections.abc import Sequence
from datetime import datetime

from .ledgers import Survey

HEADINGS = ("LEDGER", "BREAKER", "STATE", "FOR", "CALLS", "FAILED", "SLOW", "RUNNING", "WHY")
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def rows(survey: Survey) -> list[tuple[str, ...]]:
    """Return a row for each breaker, with the columns of HEADINGS."""
    return [
        (
            each.name,
            name,
            seen.state.value,
            age(seen.age),
            str(seen.window.requests),
            f"{seen.window.failure_rate:.0%}",
            f"{seen.window.slow_call_rate:.0%}",
            str(seen.in_flight),
            seen.why,
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


def plain(text: str) -> str:
    """Return text without control characters of a terminal: names and reasons may come from other programs."""
    return "".join(char if char.isprintable() else "?" for char in text)


def age(seconds: float) -> str:
    """Return seconds in their largest unit: 5s, 3m, 2h, 4d."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), ("s", 1))
    return f"{int(seconds // size)}{unit}"


def clock(at: float) -> str:
    """Return a time since the epoch in the time zone of this host."""
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"
