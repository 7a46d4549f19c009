"""The counts of one lane of calls: cells that one call at a time writes, so that they need no lock."""

import threading
from bisect import bisect_right
from collections.abc import Callable

from cb.states import Outcome, State

from . import layout as at
from .layout import generation_of, state_of
from .probe_scope import Scope
from .semaphore import Permit

#: the word of a tally that the process has lost in a fork: nothing that its call does is counted here
DETACHED = -2
#: added to STARTED; who knows nothing of it finds a call that has only just begun
PAUSED = 1 << 62


class Counters:
    """Where a running call notes that it runs, and how it ended.

    A call takes a tally from its process's pool and puts it back when it ends. Not thread safe: whoever took it from
    the pool, alone writes its cells.
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
        #: when the slice of the window ends that was counted in last; 0 makes the next call look
        self.slice_end = 0
        #: WORD as the running call found it; -1 makes the next call ask for admission
        self.word = -1
        #: when the running call began
        self.started = 0
        #: what stands in the cells of the briefest successes and of ELAPSED, while `slice_end` lies ahead: a call that
        #: succeeds quickly then need not load them
        self.fast_successes = self.elapsed = 0
        #: what the running call has of a bulkhead; gone with the tally, should the call be cut off
        self.permit: Permit | None = None
        #: whether the running call is inside a probe of the same breaker, and belongs to it
        self.nested = False
        #: the inside of the running call, if it holds a permit
        self.scope: Scope | None = None

    @property
    def seen(self) -> bool:
        """True if the counts made here are read: a call whose outcome is read nowhere must not be a probe."""
        return True

    @property
    def probe(self) -> bool:
        """Whether the running call tries a circuit that was open."""
        return self.word >= 0 and state_of(self.word) is State.HALF_OPEN

    @property
    def permitted(self) -> bool:
        """True if the running call holds a permit, so that its outcome counts in the round."""
        return self.probe and not self.nested

    def abandon(self) -> None:
        """End a call that was cut off before it could be settled: it counts as neither a success nor a failure.

        A probe whose answer was still to be read is good all the same: each round needs a verdict.
        """
        self.count(at.NEUTRAL)
        answered = self.cells[at.STARTED] >= PAUSED
        self.cells[at.ROUND_SUCCESSES if answered else at.ROUND_RETURNED] += self.permits_held()
        self.cells[at.STARTED] = 0

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        """Note that a call has been admitted and runs; in HALF_OPEN, under the ledger lock, with a permit.

        One that is `nested` in a probe takes no permit, and needs no lock.
        """
        self.word, self.slice_end, self.started, self.nested = word, 0, now, nested
        if state_of(word) is not State.HALF_OPEN:
            self.begin_generation(word)
        self.cells[at.STARTED] = now
        self.cells[at.ADMITTED] = word
        if state_of(word) is State.HALF_OPEN and not nested:
            self.take(generation_of(word))

    def begin_generation(self, word: int) -> None:
        """Begin an empty window, unless the tally has counted in this stay already."""
        cells = self.cells
        if generation_of(cells[at.ADMITTED]) != generation_of(word):
            # A call of an earlier stay may have ended just when that stay did, and counted itself in this one.
            cells[at.STREAK_OF] = 0
            for begin in range(at.WINDOW, at.STRIPE_CELLS, at.SLICE_CELLS):
                cells[begin] = 0

    def pause(self, now: int, *, answered: bool = True) -> None:
        """Note that the call waits for its caller, who reads the answer: it is in flight, but not slow and not hung.

        A probe that is not `answered` yet is still overdue when its permit is.
        """
        if answered or not self.permitted:
            self.cells[at.STARTED] = self.started + PAUSED
        self.started -= now

    def resume(self, now: int) -> None:
        """Note that it waits for the dependency again. The pause is no part of its duration."""
        self.started += now
        self.cells[at.STARTED] = self.started

    def take(self, generation: int) -> None:
        """Take a permit of a round. Caller holds the ledger lock."""
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
        except ValueError:  # it would leave its cell: somebody has written over it
            self.cells[total] = 1

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        """Count a success or a failure in totals, histogram and window, and a failure in the streak."""
        if now >= self.slice_end:
            self._turn(now)
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
        """Add what another tally has counted since it was last empty, and empty it. Caller alone writes to both.

        Outcomes of an earlier stay than the circuit's are late.
        """
        mine, its, word = self.cells, other.cells, other.cells[at.ADMITTED]
        outcomes = range(at.SUCCESSES, at.WINDOW)
        if generation_of(word) != generation_of(self.head[at.WORD]):
            mine[at.ADMITTED] = mine[at.ADMITTED] or 1
            mine[at.LATE] += sum(its[at.SUCCESSES : at.WINDOW].tolist())
        elif any(its[at.SUCCESSES : at.WINDOW].tolist()):
            self.begin_generation(word)
            mine[at.ADMITTED] = word
            self._turn(now)
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
        """Return how many permits of its latest round this tally holds."""
        taken, *ended = self.cells[at.ROUND_TAKEN : at.ROUND_RETURNED + 1].tolist()
        return int(taken - sum(ended))

    def _turn(self, now: int) -> None:
        """Go to the slice of the window that `now` lies in."""
        cells, origin, length = self.cells, self.head[at.ORIGIN], max(self.head[at.SLICE], 1)
        number = max(now - origin, 0) // length
        begin = origin + number * length
        first = at.WINDOW + number % at.SLICES * at.SLICE_CELLS
        if cells[first] != begin:
            # A slice keeps what the totals were when it began, so that a call need not count itself twice.
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
    """The tally that all calls of a process share which find no other, and its lock."""

    __slots__ = ("lock", "tally")

    def __init__(self, tally: Counters) -> None:
        self.tally = tally
        self.lock = threading.RLock()  # a signal handler may call while its thread holds it

    def detach(self) -> None:
        """Go on in cells that nobody reads, with a lock that nobody holds: the parent has these, in a forked child."""
        self.lock = threading.RLock()
        self.tally.cells = private_cells(at.STRIPE_CELLS)

    def run(self, work: Callable[[Counters], object], now: int = 0) -> None:  # noqa: ARG002 - for those that share
        """Call work(tally) as the only one that writes to the tally. `now` is when, where that is known."""
        with self.lock:
            work(self.tally)

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        """Note that a call has been admitted; in HALF_OPEN, under the ledger lock, with a permit unless `nested`."""
        with self.lock:
            self.tally.admit(word, now, nested=nested)
            self.tally.cells[at.STARTED] = 0

    def end_probe(self, word: int, total: int) -> None:
        """Count the end of a probe that was admitted by that word."""
        with self.lock:
            self.tally.word = word
            self.tally.end_probe(total)


class OverflowCounters(Counters):
    """The tally of a call that finds none of its own.

    Its outcome is counted like any other, in the spill; only that it runs is not seen.
    """

    __slots__ = ("_spill",)

    def __init__(self, spill: SharedCounters) -> None:
        super().__init__(private_cells(at.STRIPE_CELLS), spill.tally.head)
        self._spill = spill

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        self.word, self.slice_end, self.started, self.nested = word, 0, now, nested
        self._spill.admit(word, now, nested=nested)

    def abandon(self) -> None:
        self.count(at.NEUTRAL)
        if self.permitted:
            self.end_probe(at.ROUND_RETURNED)

    def count(self, total: int) -> None:
        self._spill.run(lambda tally: tally.count(total))

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        def work(tally: Counters) -> None:
            if not self.probe:
                tally.begin_generation(self.word)
            tally.cells[at.ADMITTED] = self.word
            tally.started, tally.slice_end = self.started, 0
            tally.record(now, outcome, slow)

        self._spill.run(work, now)

    def end_probe(self, total: int) -> None:
        self._spill.end_probe(self.word, total)


def private_cells(cells: int) -> memoryview:
    """Return cells that nobody reads."""
    return memoryview(bytearray(cells * 8)).cast("q")
