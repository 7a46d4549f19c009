"""Counters of calls: cells that one call at a time writes, so that they need no lock."""

import threading
from bisect import bisect_right
from collections.abc import Callable

from cb.states import Outcome, State

from . import layout as at
from .layout import generation_of, state_of
from .probe_scope import ProbeScope
from .semaphore import Permit

#: `word` of counters that the process has lost in a fork: nothing that their call does is counted here
DETACHED = -2
#: added to STARTED; a reader that ignores it sees a call that has only just begun
PAUSED = 1 << 62


class Counters:
    """One stripe: the start, the outcome and the totals of one call at a time.

    A call takes counters from its process's pool and puts them back when it ends. Not thread-safe: only the call that
    took them from the pool writes their cells.
    """

    __slots__ = (
        "__weakref__",
        "cells",
        "elapsed",
        "fast_successes",
        "head",
        "nested",
        "permit",
        "scope",
        "slice_end",
        "started",
        "word",
    )

    def __init__(self, cells: memoryview, head: memoryview) -> None:
        self.cells = cells
        self.head = head
        #: end of the slice of the window that was counted in last; 0 makes the next call look it up
        self.slice_end = 0
        #: WORD at the admission of the running call; -1 makes the next call request admission
        self.word = -1
        #: start of the running call
        self.started = 0
        #: copies of the cells of the briefest successes and of ELAPSED, valid while `slice_end` lies ahead: a call that
        #: succeeds quickly then need not load them
        self.fast_successes = self.elapsed = 0
        #: the running call's permit of a bulkhead; dropped with the counters, should the call be cut off
        self.permit: Permit | None = None
        #: True if the running call is inside a probe of the same breaker, and belongs to it
        self.nested = False
        #: the inside of the running call, if it holds a permit
        self.scope: ProbeScope | None = None

    def __repr__(self) -> str:
        state = "idle" if self.word < 0 else f"{state_of(self.word)}, generation {generation_of(self.word)}"
        return f"<{type(self).__name__} {state}>"

    @classmethod
    def in_stripe(cls, cells: memoryview, shard: int, stripe: int) -> "Counters":
        """Return the counters in one stripe of a shard of a record."""
        start = (1 + shard) * at.PAGE + at.STRIPES_START + stripe * at.STRIPE_CELLS
        return cls(cells[start : start + at.STRIPE_CELLS], cells[: at.PAGE])

    @property
    def readable(self) -> bool:
        """True if the counts are read: a call whose outcome is read nowhere must not be a probe."""
        return True

    @property
    def probe(self) -> bool:
        """True if the running call is a probe."""
        return self.word >= 0 and state_of(self.word) is State.HALF_OPEN

    @property
    def permitted(self) -> bool:
        """True if the running call holds a permit, so that its outcome counts in the round."""
        return self.probe and not self.nested

    def abandon(self) -> None:
        """End a call that was cut off before it was settled: it is neutral.

        A probe whose response was still being read counts as a success: each round needs a verdict.
        """
        self.count(at.NEUTRAL)
        answered = self.cells[at.STARTED] >= PAUSED
        self.cells[at.ROUND_SUCCESSES if answered else at.ROUND_RETURNED] += self.permits_held()
        self.cells[at.STARTED] = 0

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        """Record that a call has been admitted and runs; in HALF_OPEN, under the ledger lock, with a permit.

        A call that is `nested` in a probe takes no permit and needs no lock.
        """
        self.word, self.slice_end, self.started, self.nested = word, 0, now, nested
        if state_of(word) is not State.HALF_OPEN:
            self.begin_generation(word)
        self.cells[at.STARTED] = now
        self.cells[at.ADMITTED] = word
        if state_of(word) is State.HALF_OPEN and not nested:
            self.take_permit(generation_of(word))

    def begin_generation(self, word: int) -> None:
        """Empty the window, unless it has counted in this generation already."""
        cells = self.cells
        if generation_of(cells[at.ADMITTED]) != generation_of(word):
            # A call of an earlier generation may have ended just when that did, and counted itself in this one.
            cells[at.STREAK_OF] = 0
            for begin in range(at.WINDOW, at.STRIPE_CELLS, at.SLICE_CELLS):
                cells[begin] = 0

    def pause(self, now: int, *, answered: bool = True) -> None:
        """Record that the call waits for its caller, who reads the response: it runs, but is neither slow nor hung.

        A probe without a response (`answered` is False) is still overdue when its permit is.
        """
        if answered or not self.permitted:
            self.cells[at.STARTED] = self.started + PAUSED
        self.started -= now

    def resume(self, now: int) -> None:
        """Record that it waits for the dependency again. The pause is no part of its duration."""
        self.started += now
        self.cells[at.STARTED] = self.started

    def take_permit(self, generation: int) -> None:
        """Take a permit of a round. The caller holds the ledger lock."""
        cells = self.cells
        if cells[at.ROUND] != generation:
            for old in range(at.ROUND_TAKEN, at.ROUND_RETURNED + 1):
                cells[old] = 0
            cells[at.ROUND] = generation
        cells[at.ROUND_TAKEN] += 1

    def count(self, total: int) -> None:
        """Add one to a total: FULL, NEUTRAL, LATE or REJECTED."""
        try:
            self.cells[total] += 1
        except ValueError:  # the sum does not fit: another program has written over the cell
            self.cells[total] = 1

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        """Count a success or a failure in totals, histogram and window, and a failure in the streak."""
        if now >= self.slice_end:
            self._begin_slice(now)
        cells = self.cells
        elapsed = max(now - self.started, 0)
        bars = at.FAILURES if outcome is Outcome.FAILURE else at.SUCCESSES
        cells[bars + bisect_right(at.BOUNDS, elapsed)] += 1
        cells[at.ELAPSED] += elapsed
        self.fast_successes, self.elapsed = cells[at.SUCCESSES], cells[at.ELAPSED]
        if outcome is Outcome.FAILURE:
            self._extend_streak()
        if slow:
            cells[at.SLOW] += 1

    def merge(self, other: "Counters", now: int) -> None:
        """Add the counts of other counters and empty those. Only the caller writes to both.

        Outcomes of an earlier generation than the circuit's are late.
        """
        mine, its, word = self.cells, other.cells, other.cells[at.ADMITTED]
        outcomes = range(at.SUCCESSES, at.WINDOW)
        if generation_of(word) != generation_of(self.head[at.WORD]):
            mine[at.ADMITTED] = mine[at.ADMITTED] or 1
            mine[at.LATE] += sum(its[at.SUCCESSES : at.WINDOW].tolist())
        elif any(its[at.SUCCESSES : at.WINDOW].tolist()):
            self.begin_generation(word)
            mine[at.ADMITTED] = word
            self._begin_slice(now)
            if its[at.STREAK_FAILURES]:
                if mine[at.STREAK_OF] != its[at.STREAK_OF]:
                    mine[at.STREAK_OF], mine[at.STREAK_FAILURES] = its[at.STREAK_OF], 0
                mine[at.STREAK_FAILURES] += its[at.STREAK_FAILURES]
            for cell in (*outcomes, at.SLOW, at.ELAPSED):
                mine[cell] += its[cell]
        for cell in (at.FULL, at.NEUTRAL, at.LATE, at.REJECTED):
            mine[cell] += its[cell]
        for cell in range(at.FULL, at.STRIPE_CELLS):
            its[cell] = 0

    def end_probe(self, total: int) -> None:
        """Count the end of a probe: ROUND_SUCCESSES, ROUND_FAILURES or ROUND_RETURNED of its generation."""
        if self.cells[at.ROUND] == generation_of(self.word):
            self.cells[total] += 1

    def permits_held(self) -> int:
        """Return the number of permits of the latest round that are taken and not returned."""
        taken, *ended = self.cells[at.ROUND_TAKEN : at.ROUND_RETURNED + 1].tolist()
        return int(taken - sum(ended))

    def _begin_slice(self, now: int) -> None:
        """Go to the slice of the window that contains `now`."""
        cells, origin, length = self.cells, self.head[at.ORIGIN], max(self.head[at.SLICE], 1)
        number = max(now - origin, 0) // length
        begin = origin + number * length
        first = at.WINDOW + number % at.SLICES * at.SLICE_CELLS
        if cells[first] != begin:
            # A slice keeps the totals at its start, so that a call need not count itself twice.
            cells[first] = 0  # a reader that comes now skips the slice: nothing has been counted in it
            cells[first + 1] = sum(cells[at.SUCCESSES : at.WINDOW].tolist())
            cells[first + 2] = sum(cells[at.FAILURES : at.WINDOW].tolist())
            cells[first + 3] = cells[at.SLOW]
            cells[first] = begin
        self.slice_end = begin + length

    def _extend_streak(self) -> None:
        number = self.head[at.STREAK]
        if self.cells[at.STREAK_OF] != number:
            self.cells[at.STREAK_FAILURES] = 0
            self.cells[at.STREAK_OF] = number
        self.cells[at.STREAK_FAILURES] += 1


class SharedCounters:
    """Counters with a lock, for all calls of a process that find no others."""

    __slots__ = ("counters", "lock")

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.lock = threading.RLock()  # a signal handler may call while its thread holds it

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.counters!r}>"

    def detach(self) -> None:
        """Continue in private cells and with a new lock, in a forked child: these are the parent's."""
        self.lock = threading.RLock()
        self.counters.cells = private_cells(at.STRIPE_CELLS)

    def run(self, work: Callable[[Counters], object], now: int = 0) -> None:  # noqa: ARG002 - for HostCounters
        """Call work(counters) as the only writer of the counters, at time `now` if that is known."""
        with self.lock:
            work(self.counters)

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        """Record that a call is admitted; in HALF_OPEN, under the ledger lock, with a permit unless `nested`."""
        with self.lock:
            self.counters.admit(word, now, nested=nested)
            self.counters.cells[at.STARTED] = 0

    def end_probe(self, word: int, total: int) -> None:
        """Count the end of a probe that was admitted with that word."""
        with self.lock:
            self.counters.word = word
            self.counters.end_probe(total)


class OverflowCounters(Counters):
    """Counters of a call for which the pool has none.

    Its outcome is counted like any other, in the shared counters; only its running is not visible.
    """

    __slots__ = ("_shared",)

    def __init__(self, shared: SharedCounters) -> None:
        super().__init__(private_cells(at.STRIPE_CELLS), shared.counters.head)
        self._shared = shared

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        self.word, self.slice_end, self.started, self.nested = word, 0, now, nested
        self._shared.admit(word, now, nested=nested)

    def abandon(self) -> None:
        self.count(at.NEUTRAL)
        if self.permitted:
            self.end_probe(at.ROUND_RETURNED)

    def count(self, total: int) -> None:
        self._shared.run(lambda counters: counters.count(total))

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        def work(counters: Counters) -> None:
            if not self.probe:
                counters.begin_generation(self.word)
            counters.cells[at.ADMITTED] = self.word
            counters.started, counters.slice_end = self.started, 0
            counters.record(now, outcome, slow)

        self._shared.run(work, now)

    def end_probe(self, total: int) -> None:
        self._shared.end_probe(self.word, total)


def private_cells(number: int) -> memoryview:
    """Return cells that no other process reads."""
    return memoryview(bytearray(number * 8)).cast("q")
