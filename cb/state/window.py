"""What the tallies of a row add up to, for all processes, the calls that still run included."""

import sys
from collections.abc import Sized
from dataclasses import dataclass, field

from cb.config import BreakerConfig, nanoseconds
from cb.ledger import layout as at
from cb.ledger.counters import PAUSED
from cb.ledger.layout import generation_of, state_of
from cb.ledger.record import Record
from cb.states import State

_SLICES = range(at.WINDOW, at.STRIPE_CELLS, at.SLICE_CELLS)


@dataclass(slots=True)
class Counts:
    """Calls of the window. A call that runs too long is in it before it ends."""

    #: successes and failures; no call that was refused or neutral
    requests: int = 0
    #: calls that failed
    failures: int = 0
    #: calls that took slow_call_duration or longer, failed or not
    slow: int = 0

    @property
    def failure_rate(self) -> float:
        """0 to 1; 0 without calls."""
        return self.failures / self.requests if self.requests else 0.0

    @property
    def slow_call_rate(self) -> float:
        """0 to 1; 0 without calls."""
        return self.slow / self.requests if self.requests else 0.0


@dataclass(slots=True)
class Probes:
    """Calls of a half-open round."""

    #: permits that were given and not given back
    taken: int = 0
    successes: int = 0
    failures: int = 0
    #: those of the failures whose permit was taken back while they run
    overdue: int = 0


@dataclass(slots=True)
class WindowStats:
    """All tallies of a row, at one moment."""

    window: Counts = field(default_factory=Counts)
    probes: Probes = field(default_factory=Probes)
    #: failures since the last success
    streak: int = 0
    #: calls that have failed by running too long, among those of the streak
    hung: int = 0


def read(row: Record, config: BreakerConfig, now: int) -> WindowStats:
    """Add up the tallies of a row. Changes nothing."""
    head = row.head
    word, streak, oldest = head[at.WORD], head[at.STREAK], _oldest(row, now)
    newest = now + head[at.SLICE]  # what seems to have begun later, has by another clock
    state, generation = state_of(word), generation_of(word)
    reading = WindowStats()
    window, probes = reading.window, reading.probes
    for page in [page.tolist() for page in row.pages(own=True)]:  # summing integers of Python is faster
        for stripe in _stripes(page):
            if not page[stripe + at.ADMITTED]:
                continue
            cells = page[stripe : stripe + at.STRIPE_CELLS]
            present = generation_of(cells[at.ADMITTED]) == generation
            if cells[at.ROUND] == generation:
                _count_probes(probes, cells, now, config)
            # What a call counts that was admitted in an earlier stay must not decide this one.
            votes = present or state not in (State.CLOSED, State.METRICS_ONLY)
            if votes and cells[at.STREAK_OF] == streak:
                reading.streak += cells[at.STREAK_FAILURES]
            if votes and (slices := [(cells[begin], begin) for begin in _SLICES if oldest <= cells[begin] <= newest]):
                _, first = min(slices)
                window.requests += sum(cells[at.SUCCESSES : at.WINDOW]) - cells[first + 1]
                window.failures += sum(cells[at.FAILURES : at.WINDOW]) - cells[first + 2]
                window.slow += cells[at.SLOW] - cells[first + 3]
            if cells[at.STARTED] and present and state in (State.CLOSED, State.METRICS_ONLY):
                _count_running(reading, now - cells[at.STARTED], config, since_streak=now - streak)
    reading.streak += reading.hung
    return reading


def totals(pages: list[memoryview]) -> list[int]:
    """Return the cells of all tallies of a row before their windows, added up: totals and histogram.

    Each tally is one long integer here, so that one addition adds all of its cells: ten times as fast as cell by cell.
    No counter runs over into the next; STREAK_OF may, into STREAK_FAILURES, and neither means anything in a sum.
    """
    added = 0
    for page in pages:
        for stripe, admitted in zip(
            _stripes(page), page[at.STRIPES_START + at.ADMITTED :: at.STRIPE_CELLS].tolist(), strict=True
        ):
            if admitted:
                added += int.from_bytes(page[stripe + at.FULL : stripe + at.WINDOW], sys.byteorder)
    size = (at.WINDOW - at.FULL) * 8
    added &= (1 << size * 8) - 1  # numbers that make no sense may leave their cells
    cells = memoryview(added.to_bytes(size, sys.byteorder)).cast("q").tolist()
    return [0] * at.FULL + cells


def _stripes(page: Sized) -> range:
    """Return where each tally of a block begins."""
    return range(at.STRIPES_START, len(page), at.STRIPE_CELLS)


def in_flight(pages: list[memoryview]) -> int:
    """Return how many calls of a row run."""
    started = [page[at.STRIPES_START + at.STARTED :: at.STRIPE_CELLS].tolist() for page in pages]
    return sum(len(times) - times.count(0) for times in started)


def _count_probes(probes: Probes, cells: list[int], now: int, config: BreakerConfig) -> None:
    successes, failures, returned = cells[at.ROUND_SUCCESSES : at.ROUND_RETURNED + 1]
    probes.taken += cells[at.ROUND_TAKEN] - returned
    probes.successes += successes
    probes.failures += failures
    out = cells[at.ROUND_TAKEN] - successes - failures - returned
    paused, started = divmod(cells[at.STARTED], PAUSED)
    if out > 0 and started and now - started >= nanoseconds(config.permit_timeout):
        if paused:  # it has been answered, and its caller takes his time over the body
            probes.successes += out
        else:
            probes.failures += out
            probes.overdue += out


def _count_running(reading: WindowStats, age: int, config: BreakerConfig, since_streak: int) -> None:
    """Count a call of a CLOSED circuit that has run for `age`, if that is too long."""
    timeout = nanoseconds(config.call_timeout) if config.call_timeout else age + 1
    slow, failed = age >= nanoseconds(config.slow_call_duration), age >= timeout
    reading.window.requests += slow or failed
    reading.window.failures += failed
    reading.window.slow += slow
    # The number of a streak is the time of the success that began it: that may have come after this call failed.
    reading.hung += failed and age - timeout < since_streak


def slice_end(row: Record, now: int) -> int:
    """Return when the running slice ends."""
    origin, length = row.head[at.ORIGIN], max(row.head[at.SLICE], 1)
    return origin + (max(now - origin, 0) // length + 1) * length


def last_failure(row: Record, now: int) -> tuple[int, str] | None:
    """Return when a call failed last, and the name of its exception. A time that lies ahead is of another clock."""
    ahead = now + row.head[at.SLICE]
    found = [page[: at.STRIPES_START].tolist() for page in row.pages() if page[at.FAILED_AT] <= ahead]
    latest = max(found, key=lambda cells: cells[at.FAILED_AT], default=[0])
    if not latest[at.FAILED_AT]:
        return None
    data = b"".join(cell.to_bytes(8, sys.byteorder, signed=True) for cell in latest[at.FAILED_TYPE :])
    return latest[at.FAILED_AT], data.rstrip(b"\0").decode(errors="replace")


def _oldest(row: Record, now: int) -> int:
    """Return when the oldest slice of the window began: SLICES of them, the running one included."""
    origin, length = row.head[at.ORIGIN], max(row.head[at.SLICE], 1)
    running = max(now - origin, 0) // length
    return max(origin + (running - at.SLICES + 1) * length, origin)
