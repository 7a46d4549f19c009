"""The counts of one lane of calls: cells that one call at a time writes, so that they need no lock."""

import threading
from bisect import bisect_right
from enum import Enum

from . import layout as at
from .layout import State, generation_of, state_of
from .slots import Slot

#: the word of a tally that the process has lost in a fork: nothing that its call does is counted here
DETACHED = -2


class Outcome(Enum):
    """How a call ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


class Tally:
    """Where a running call notes that it runs, and how it ended.

    A call takes a tally from its process's pool and puts it back when it ends. Not thread safe: whoever took it from
    the pool, alone writes its cells.
    """

    __slots__ = ("brief", "cells", "elapsed", "head", "slice_end", "slot", "started", "word")

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
        self.brief = self.elapsed = 0
        #: what the running call has of a bulkhead; gone with the tally, should the call be cut off
        self.slot: Slot | None = None

    @property
    def seen(self) -> bool:
        """Whether other processes see what is counted: a call that nobody sees must not be a probe."""
        return True

    @property
    def probe(self) -> bool:
        """Whether the running call tries a circuit that was open."""
        return self.word >= 0 and state_of(self.word) is State.HALF_OPEN

    def abandon(self) -> None:
        """End a call that was cut off before it could be settled: it counts as neither a success nor a failure."""
        self.count(at.NEUTRAL)
        self.cells[at.ROUND_RETURNED] += self.permits_out()
        self.cells[at.STARTED] = 0

    def admit(self, word: int, now: int) -> None:
        """Note that a call has been admitted and runs; in HALF_OPEN, under the ledger lock, with a permit."""
        self.word, self.slice_end, self.started = word, 0, now
        cells, generation, state = self.cells, generation_of(word), state_of(word)
        if state is not State.HALF_OPEN and generation_of(cells[at.ADMITTED]) != generation:
            # A call of an earlier stay may have ended just when that stay did, and counted itself in this one.
            cells[at.STREAK_OF] = 0
            for begin in range(at.WINDOW, at.TALLY_CELLS, at.SLICE_CELLS):
                cells[begin] = 0
        cells[at.STARTED] = now
        cells[at.ADMITTED] = word
        if state is State.HALF_OPEN:
            self.take(generation)

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
        self.cells[total] += 1

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        """Count a success or a failure in totals, histogram and window, and a failure in the streak."""
        if now >= self.slice_end:
            self._turn(now)
        cells = self.cells
        elapsed = max(now - self.started, 0)
        bars = at.FAILURES if outcome is Outcome.FAILURE else at.SUCCESSES
        cells[bars + bisect_right(at.BOUNDS, elapsed)] += 1
        cells[at.ELAPSED] += elapsed
        self.brief, self.elapsed = cells[at.SUCCESSES], cells[at.ELAPSED]
        if outcome is Outcome.FAILURE:
            self._extend_streak()
        if slow:
            cells[at.SLOW] += 1

    def probed(self, total: int) -> None:
        """Count the end of a probe: ROUND_SUCCESSES, ROUND_FAILURES or ROUND_RETURNED of its generation."""
        if self.cells[at.ROUND] == generation_of(self.word):
            self.cells[total] += 1

    def permits_out(self) -> int:
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


class Spill:
    """The tally that all calls of a process share which find no other, and its lock."""

    __slots__ = ("lock", "seen", "tally")

    def __init__(self, tally: Tally, *, seen: bool) -> None:
        self.tally = tally
        #: whether other processes see it
        self.seen = seen
        self.renew(tally.cells)

    def renew(self, cells: memoryview) -> None:
        """Go on in other cells, with a lock that nobody holds."""
        self.lock = threading.RLock()  # a signal handler may call while its thread holds it
        self.tally.cells = cells


class Overflow(Tally):
    """What a call gets when the host has more calls in flight than tallies.

    Its outcome is counted like any other, in the spill; only that it runs is not seen.
    """

    __slots__ = ("_spill",)

    def __init__(self, spill: Spill) -> None:
        super().__init__(nowhere(at.TALLY_CELLS), spill.tally.head)
        self._spill = spill

    @property
    def seen(self) -> bool:
        return self._spill.seen

    def admit(self, word: int, now: int) -> None:
        self.word, self.slice_end, self.started = word, 0, now
        with self._spill.lock:
            self._spill.tally.admit(word, now)
            self._spill.tally.cells[at.STARTED] = 0

    def abandon(self) -> None:
        self.count(at.NEUTRAL)
        if self.probe:
            self.probed(at.ROUND_RETURNED)

    def count(self, total: int) -> None:
        with self._spill.lock:
            self._spill.tally.count(total)

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        with self._spill.lock:
            self._spill.tally.started = self.started
            self._spill.tally.record(now, outcome, slow)

    def probed(self, total: int) -> None:
        with self._spill.lock:
            self._spill.tally.word = self.word
            self._spill.tally.probed(total)


def nowhere(cells: int) -> memoryview:
    """Return cells that nobody reads."""
    return memoryview(bytearray(cells * 8)).cast("q")
