"""One breaker's part of a ledger, as one process sees it."""

import threading
from typing import Protocol

from . import layout as at
from .tally import Outcome, Overflow, Tally


class Space(Protocol):
    """What a row needs of its ledger."""

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a row its memory."""

    def block(self, number: int, now: int) -> int | None:
        """Return the number-th block of this process, None if the host has no more."""


class Row:
    """The cells of a breaker, and this process's pool of tallies in them."""

    def __init__(self, index: int, cells: memoryview, space: Space) -> None:
        self.index = index
        self.head = cells[: at.PAGE]
        #: tallies that no call uses; list.pop and list.append are atomic, so taking one needs no lock
        self.idle: list[Tally] = []
        self._cells = cells
        self._space = space
        self._taken: list[Tally] = []
        self._lock = threading.Lock()
        self._shared: Tally | None = None

    def grow(self, now: int) -> Tally:
        """Return one more tally."""
        with self._lock:
            # The first is kept back for the calls that find no other.
            if self._shared is None:
                self._shared = self._lane(0, now)
            if self._shared and (tally := self._lane(1 + len(self._taken), now)):
                self._taken.append(tally)
                return tally
            shared = self._shared or Tally(memoryview(bytearray(at.PAGE * 8)).cast("q"), self.head)
            return Overflow(shared, self._lock)

    def _lane(self, number: int, now: int) -> Tally | None:
        block_number, lane = divmod(number, at.TALLIES)
        block = self._space.block(block_number, now)
        if block is None:
            return None
        if not self.head[at.USED + block]:
            self._space.allocate(self.index, 1 + block)
            self.head[at.USED + block] = 1
        return tally_of(self._cells, block, lane)

    def pages(self) -> list[list[int]]:
        """Return what stands in every block that has memory, as integers of Python: summing those is faster."""
        starts = [(1 + block) * at.PAGE for block in at.blocks(self._cells)]
        return [self._cells[start : start + at.PAGE].tolist() for start in starts]

    def note_failure(self, now: int, kind: str) -> None:
        """Remember when a call failed last in this process, and the name of its exception."""
        with self._lock:
            block = self._space.block(0, now)
            if block is not None and self.head[at.USED + block]:
                start = (1 + block) * at.PAGE
                self._cells[start + at.FAILED_AT] = 0  # a reader that finds 0 does not trust the name
                at.put_text(self._cells, start + at.FAILED_TYPE, at.FAILED_TYPE_CELLS, kind)
                self._cells[start + at.FAILED_AT] = now

    def renew(self) -> None:
        """Forget the parent's tallies, in a forked child. What still writes to them writes to nowhere."""
        self._lock = threading.Lock()
        for tally in self._taken:
            tally.cells = memoryview(bytearray(at.TALLY_CELLS * 8)).cast("q")
        self._taken.clear()
        self._shared = None
        self.idle.clear()


def tally_of(cells: memoryview, block: int, lane: int) -> Tally:
    """Return one tally of a block of a row."""
    start = (1 + block) * at.PAGE + at.TALLY + lane * at.TALLY_CELLS
    return Tally(cells[start : start + at.TALLY_CELLS], cells[: at.PAGE])


def inherit(cells: memoryview, block: int, now: int) -> None:
    """Take over a row's block whose owner died: its totals go on, its running calls become failures."""
    head = cells[: at.PAGE]
    if not head[at.USED + block]:
        return
    for lane in range(at.TALLIES):
        tally = tally_of(cells, block, lane)
        started, probe = tally.cells[at.STARTED], tally.cells[at.PROBE]
        if not started:
            continue
        tally.started, tally.word = started, head[at.WORD]
        if probe and probe == tally.word >> 3:
            tally.probed(at.ROUND_FAILURES)
        if started < head[at.SINCE]:
            tally.count(at.LATE)
        else:
            tally.record(now, Outcome.FAILURE, slow=False)
            head[at.ALERT] = 1
        tally.cells[at.PROBE] = tally.cells[at.STARTED] = 0
