"""The counts of one lane of calls: cells that one call at a time writes, so that they need no lock."""

import threading
from bisect import bisect_right
from enum import Enum

from . import layout as at


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

    __slots__ = ("calls", "cells", "head", "slice_end", "started", "word")

    def __init__(self, cells: memoryview, head: memoryview) -> None:
        self.cells = cells
        self.head = head
        #: index of the cell that counts the calls of the running slice
        self.calls = at.WINDOW + 1
        #: when that slice ends
        self.slice_end = 0
        #: WORD as the running call found it
        self.word = -1
        #: when the running call began
        self.started = 0

    def count(self, total: int) -> None:
        """Add one to a total: NEUTRAL, LATE or REJECTED."""
        self.cells[total] += 1

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        """Count a success or a failure in totals, histogram and window, and a failure in the streak."""
        self._turn(now)
        cells, calls = self.cells, self.calls
        cells[calls] += 1
        if outcome is Outcome.FAILURE:
            cells[calls + 1] += 1
            cells[at.FAILURES] += 1
            self._extend_streak()
        if slow:
            cells[calls + 2] += 1
            cells[at.SLOW] += 1
        elapsed = max(now - self.started, 0)
        cells[at.HISTOGRAM + bisect_right(at.BOUNDS, elapsed)] += 1
        cells[at.ELAPSED] += elapsed

    def probed(self, total: int) -> None:
        """Count the end of a probe: ROUND_SUCCESSES, ROUND_FAILURES or ROUND_RETURNED of its generation."""
        cells, generation = self.cells, self.word >> 3
        if cells[at.ROUND] != generation:
            for old in (at.ROUND_SUCCESSES, at.ROUND_FAILURES, at.ROUND_RETURNED):
                cells[old] = 0
            cells[at.ROUND] = generation
        cells[total] += 1

    def _turn(self, now: int) -> None:
        """Go to the slice of the window that `now` lies in."""
        origin, length = self.head[at.ORIGIN], self.head[at.SLICE]
        number = max(now - origin, 0) // length
        begin = origin + number * length
        first = at.WINDOW + number % at.SLICES * at.SLICE_CELLS
        if self.cells[first] != begin:
            # The counts go before the begin is renewed: a reader may miss a slice that ends, never count it twice.
            for cell in (first + 1, first + 2, first + 3):
                self.cells[cell] = 0
            self.cells[first] = begin
        self.calls = first + 1
        self.slice_end = begin + length

    def _extend_streak(self) -> None:
        number = self.head[at.STREAK]
        if self.cells[at.STREAK_OF] != number:
            self.cells[at.STREAK_FAILURES] = 0
            self.cells[at.STREAK_OF] = number
        self.cells[at.STREAK_FAILURES] += 1


class Overflow(Tally):
    """What a call gets when the host has more calls in flight than tallies.

    Its outcome is counted like any other, in a tally that all such calls of the process share under a lock; only that
    it runs is not seen.
    """

    __slots__ = ("_lock", "_shared")

    def __init__(self, shared: Tally, lock: threading.Lock) -> None:
        super().__init__(memoryview(bytearray(at.TALLY_CELLS * 8)).cast("q"), shared.head)
        self._shared = shared
        self._lock = lock

    def count(self, total: int) -> None:
        with self._lock:
            self._shared.count(total)

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        with self._lock:
            self._shared.started = self.started
            self._shared.record(now, outcome, slow)

    def probed(self, total: int) -> None:
        with self._lock:
            self._shared.word = self.word
            self._shared.probed(total)
