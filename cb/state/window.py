"""Sums of the window over all processes, including the calls that are still running."""

import math
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
_MEASURED = (State.CLOSED, State.METRICS_ONLY)
#: pages of a record from which on their sums are kept
KEPT_FROM = 8


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


class PageSums:
    """The sums of one page that depend on its cells alone, and not on the time for which its calls have run."""

    __slots__ = ("failures", "first", "page", "probes", "requests", "slow", "streaks")

    def __init__(self, page: list[int], word: int, oldest: int, newest: int) -> None:
        #: the cells that were summed
        self.page = page
        #: start of the call that has run longest
        self.first = min((start % PAUSED for start in page[at.STRIPES_START :: at.STRIPE_CELLS] if start), default=0)
        self.requests = self.failures = self.slow = 0
        self.probes = Probes()
        #: failures by the number of their streak
        self.streaks: dict[int, int] = {}
        state, generation = state_of(word), generation_of(word)
        for stripe in _stripes(page):
            if not page[stripe + at.ADMITTED]:
                continue
            cells = page[stripe : stripe + at.STRIPE_CELLS]
            if cells[at.ROUND] == generation:
                _count_probes(self.probes, cells)
            # Outcomes of calls that were admitted in an earlier stay must not decide this one.
            if state in _MEASURED and generation_of(cells[at.ADMITTED]) != generation:
                continue
            if cells[at.STREAK_FAILURES]:
                number = cells[at.STREAK_OF]
                self.streaks[number] = self.streaks.get(number, 0) + cells[at.STREAK_FAILURES]
            if slices := [(cells[begin], begin) for begin in _SLICES if oldest <= cells[begin] <= newest]:
                _, first = min(slices)
                self.requests += sum(cells[at.SUCCESSES : at.WINDOW]) - cells[first + 1]
                self.failures += sum(cells[at.FAILURES : at.WINDOW]) - cells[first + 2]
                self.slow += cells[at.SLOW] - cells[first + 3]

    def __repr__(self) -> str:
        return f"<PageSums, requests: {self.requests}, failures: {self.failures}>"


def _sums_of_many(record: Record, pages: list[memoryview], word: int, oldest: int, newest: int) -> list[PageSums]:
    """Return the sums of all pages. Those of pages that have not changed since the last time are kept."""
    key, kept = record.page_sums
    if key != (word, oldest):
        key, kept = record.page_sums = (word, oldest), {}  # one store: another thread may read another moment
    result = list[PageSums]()
    for number, page in enumerate(pages):
        cells = page.tobytes()
        before = kept.get(number)
        if before is None or before[0] != cells:
            before = kept[number] = cells, PageSums(memoryview(cells).cast("q").tolist(), word, oldest, newest)
        result.append(before[1])
    return result


def read(record: Record, config: BreakerConfig, now: int) -> WindowStats:
    """Sum the counters of a record. Reads only."""
    head = record.head
    word, streak, oldest = head[at.WORD], head[at.STREAK], _oldest(record, now)
    newest = now + head[at.SLICE]  # a slice that starts later is of another clock
    stats = WindowStats()
    window, probes = stats.window, stats.probes
    pages = record.pages(own=True)
    # A process with very many calls at once has many pages, of which few change between two evaluations.
    if len(pages) >= KEPT_FROM:
        all_sums = _sums_of_many(record, pages, word, oldest, newest)
    else:  # all pages first, and quickly, so that they are of one moment
        all_sums = [PageSums(page, word, oldest, newest) for page in [page.tolist() for page in pages]]
    due = now - _shortest(config)
    for sums in all_sums:
        window.requests += sums.requests
        window.failures += sums.failures
        window.slow += sums.slow
        stats.streak += sums.streaks.get(streak, 0)
        probes.taken += sums.probes.taken
        probes.successes += sums.probes.successes
        probes.failures += sums.probes.failures
        if 0 < sums.first <= due:
            for stripe in _stripes(sums.page):
                if sums.page[stripe]:
                    _count_running(stats, sums.page[stripe : stripe + at.STRIPE_CELLS], (word, streak), config, now)
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


def _count_probes(probes: Probes, cells: list[int]) -> None:
    successes, failures, returned = cells[at.ROUND_SUCCESSES : at.ROUND_RETURNED + 1]
    probes.taken += cells[at.ROUND_TAKEN] - returned
    probes.successes += successes
    probes.failures += failures


def _shortest(config: BreakerConfig) -> int:
    """Return the nanoseconds after which a running call may count."""
    return nanoseconds(min(config.slow_call_duration, config.permit_timeout, config.call_timeout or math.inf))


def _count_running(
    stats: WindowStats, cells: list[int], moment: tuple[int, int], config: BreakerConfig, now: int
) -> None:
    """Count the running call of a stripe, if it has run for too long: as a probe, or in a circuit that measures."""
    word, streak = moment
    generation = generation_of(word)
    paused, started = divmod(cells[at.STARTED], PAUSED)
    if cells[at.ROUND] == generation:
        out = cells[at.ROUND_TAKEN] - sum(cells[at.ROUND_SUCCESSES : at.ROUND_RETURNED + 1])
        if out > 0 and now - started >= nanoseconds(config.permit_timeout):
            if paused:  # the dependency has answered, and the caller is reading the body
                stats.probes.successes += out
            else:
                stats.probes.failures += out
                stats.probes.overdue += out
    if not paused and state_of(word) in _MEASURED and generation_of(cells[at.ADMITTED]) == generation:
        age = now - started
        timeout = nanoseconds(config.call_timeout) if config.call_timeout else age + 1
        slow, failed = age >= nanoseconds(config.slow_call_duration), age >= timeout
        stats.window.requests += slow or failed
        stats.window.failures += failed
        stats.window.slow += slow
        # The number of a streak is the time of the success before it, which may be later than the failure of this call.
        stats.hung += failed and age - timeout < now - streak


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
