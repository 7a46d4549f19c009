"""Sums of the window over all processes, including the calls that are still running."""

import sys
from collections.abc import Sized
from dataclasses import dataclass, field

from cb.config import BreakerConfig, nanoseconds
from cb.ledger import layout as at
from cb.ledger.counters import PAUSED
from cb.ledger.layout import generation_of, state_of
from cb.ledger.record import Record
from cb.states import Counts, State

_SLICES = range(at.WINDOW, at.STRIPE_CELLS, at.SLICE_CELLS)


@dataclass(slots=True)
class Probes:
    """Calls of a half-open round."""

    #: permits taken and not returned
    taken: int = 0
    successes: int = 0
    failures: int = 0
    #: failures whose permit was withdrawn while they run
    overdue: int = 0


@dataclass(slots=True)
class WindowStats:
    """Sums of the counters of a record at one moment."""

    window: Counts = field(default_factory=Counts)
    probes: Probes = field(default_factory=Probes)
    #: failures since the last success
    streak: int = 0
    #: calls of the streak that failed by running too long
    hung: int = 0


def read(record: Record, config: BreakerConfig, now: int) -> WindowStats:
    """Sum the counters of a record. Reads only."""
    head = record.head
    word, streak, oldest = head[at.WORD], head[at.STREAK], _oldest(record, now)
    newest = now + head[at.SLICE]  # a slice that starts later is of another clock
    state, generation = state_of(word), generation_of(word)
    stats = WindowStats()
    window, probes = stats.window, stats.probes
    for page in [page.tolist() for page in record.pages(own=True)]:  # summing Python integers is faster
        for stripe in _stripes(page):
            if not page[stripe + at.ADMITTED]:
                continue
            cells = page[stripe : stripe + at.STRIPE_CELLS]
            present = generation_of(cells[at.ADMITTED]) == generation
            if cells[at.ROUND] == generation:
                _count_probes(probes, cells, now, config)
            # Outcomes of calls that were admitted in an earlier stay must not decide this one.
            votes = present or state not in (State.CLOSED, State.METRICS_ONLY)
            if votes and cells[at.STREAK_OF] == streak:
                stats.streak += cells[at.STREAK_FAILURES]
            if votes and (slices := [(cells[begin], begin) for begin in _SLICES if oldest <= cells[begin] <= newest]):
                _, first = min(slices)
                window.requests += sum(cells[at.SUCCESSES : at.WINDOW]) - cells[first + 1]
                window.failures += sum(cells[at.FAILURES : at.WINDOW]) - cells[first + 2]
                window.slow += cells[at.SLOW] - cells[first + 3]
            if cells[at.STARTED] and present and state in (State.CLOSED, State.METRICS_ONLY):
                _count_running(stats, now - cells[at.STARTED], config, since_streak=now - streak)
    stats.streak += stats.hung
    return stats


def totals(pages: list[memoryview]) -> list[int]:
    """Return the sums of all cells before the windows: totals and histogram.

    The cells of each stripe are added as one long integer: ten times as fast as cell by cell. No counter overflows into
    the next one; STREAK_OF may, into STREAK_FAILURES, but the sum of neither is used.
    """
    added = 0
    for page in pages:
        for stripe, admitted in zip(
            _stripes(page), page[at.STRIPES_START + at.ADMITTED :: at.STRIPE_CELLS].tolist(), strict=True
        ):
            if admitted:
                added += int.from_bytes(page[stripe + at.FULL : stripe + at.WINDOW], sys.byteorder)
    size = (at.WINDOW - at.FULL) * 8
    added &= (1 << size * 8) - 1  # damaged numbers may exceed their cells
    cells = memoryview(added.to_bytes(size, sys.byteorder)).cast("q").tolist()
    return [0] * at.FULL + cells


def _stripes(page: Sized) -> range:
    """Return where each tally of a block begins."""
    return range(at.STRIPES_START, len(page), at.STRIPE_CELLS)


def in_flight(pages: list[memoryview]) -> int:
    """Return the number of running calls of a record."""
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
        if paused:  # the dependency has answered, and the caller is stats the body
            probes.successes += out
        else:
            probes.failures += out
            probes.overdue += out


def _count_running(stats: WindowStats, age: int, config: BreakerConfig, since_streak: int) -> None:
    """Count a running call of a CLOSED circuit that has run for `age`, if that is too long."""
    timeout = nanoseconds(config.call_timeout) if config.call_timeout else age + 1
    slow, failed = age >= nanoseconds(config.slow_call_duration), age >= timeout
    stats.window.requests += slow or failed
    stats.window.failures += failed
    stats.window.slow += slow
    # The number of a streak is the time of the success before it, which may be later than the failure of this call.
    stats.hung += failed and age - timeout < since_streak


def slice_end(record: Record, now: int) -> int:
    """Return the end of the current slice."""
    origin, length = record.head[at.ORIGIN], max(record.head[at.SLICE], 1)
    return origin + (max(now - origin, 0) // length + 1) * length


def overdue_call(record: Record, config: BreakerConfig, now: int) -> tuple[int, int] | None:
    """Return the time when a running call last became overdue, and the process number of its worker. Reads only."""
    word = record.head[at.WORD]
    probe = state_of(word) is State.HALF_OPEN
    limit = config.permit_timeout if probe else config.call_timeout
    if limit is None:
        return None
    found = [
        (started + nanoseconds(limit), owner)
        for owner, page in record.owned_pages()
        for stripe in _stripes(page)
        if generation_of(page[stripe + at.ADMITTED]) == generation_of(word)
        and 0 < (started := page[stripe + at.STARTED]) <= now - nanoseconds(limit)
    ]
    return max(found, default=None)


def _oldest(record: Record, now: int) -> int:
    """Return the start of the oldest slice of the window, which has SLICES with the current one."""
    origin, length = record.head[at.ORIGIN], max(record.head[at.SLICE], 1)
    running = max(now - origin, 0) // length
    return max(origin + (running - at.SLICES + 1) * length, origin)
