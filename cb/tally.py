"""The counts of one lane of calls: cells that one call at a time writes, so that they need no lock."""

import threading
from bisect import bisect_right
from enum import Enum

from . import layout as at
from .layout import State, generation_of, state_of


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

    __slots__ = ("cells", "head", "slice_end", "started", "word")

    def __init__(self, cells: memoryview, head: memoryview) -> None:
        self.cells = cells
        self.head = head
        #: when the slice of the window ends that was counted in last; 0 makes the next call look
        self.slice_end = 0
        #: WORD as the running call found it; -1 makes the next call ask for admission
        self.word = -1
        #: when the running call began
        self.started = 0

    @property
    def probe(self) -> bool:
        """Whether the running call tries a circuit that was open."""
        return state_of(self.word) is State.HALF_OPEN

    def admit(self, word: int, now: int) -> None:
        """Note that a call has been admitted and runs."""
        self.word, self.slice_end, self.started = word, 0, now
        self.cells[at.ADMITTED] = word
        self.cells[at.STARTED] = now

    def count(self, total: int) -> None:
        """Add one to a total: NEUTRAL, LATE or REJECTED."""
        self.cells[total] += 1

    def record(self, now: int, outcome: Outcome, slow: bool) -> None:
        """Count a success or a failure in totals, histogram and window, and a failure in the streak."""
        self._turn(now)
        cells = self.cells
        if outcome is Outcome.FAILURE:
            cells[at.FAILURES] += 1
            self._extend_streak()
        if slow:
            cells[at.SLOW] += 1
        elapsed = max(now - self.started, 0)
        cells[at.HISTOGRAM + bisect_right(at.BOUNDS, elapsed)] += 1
        cells[at.ELAPSED] += elapsed

    def probed(self, total: int) -> None:
        """Count the end of a probe: ROUND_SUCCESSES, ROUND_FAILURES or ROUND_RETURNED of its generation."""
        cells, generation = self.cells, generation_of(self.word)
        if cells[at.ROUND] != generation:
            for old in (at.ROUND_SUCCESSES, at.ROUND_FAILURES, at.ROUND_RETURNED):
                cells[old] = 0
            cells[at.ROUND] = generation
        cells[total] += 1

    def _turn(self, now: int) -> None:
        """Go to the slice of the window that `now` lies in."""
        cells, origin, length = self.cells, self.head[at.ORIGIN], self.head[at.SLICE]
        number = max(now - origin, 0) // length
        begin = origin + number * length
        first = at.WINDOW + number % at.SLICES * at.SLICE_CELLS
        if cells[first] != begin:
            # A slice keeps what the totals were when it began, so that a call need not count itself twice.
            cells[first] = 0  # a reader that comes now skips the slice: nothing has been counted in it
            cells[first + 1] = sum(cells[at.HISTOGRAM : at.WINDOW].tolist())
            cells[first + 2] = cells[at.FAILURES]
            cells[first + 3] = cells[at.SLOW]
            cells[first] = begin
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
        super().__init__(nowhere(at.TALLY_CELLS), shared.head)
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


def nowhere(cells: int) -> memoryview:
    """Return cells that nobody reads."""
    return memoryview(bytearray(cells * 8)).cast("q")
