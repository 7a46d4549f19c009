"""One breaker's part of a ledger, as one process sees it."""

import logging
import threading
import weakref
from typing import Protocol

from . import layout as at
from .errors import LedgerFullError
from .events import StateChange
from .forks import notice
from .layout import State, generation_of, state_of
from .slots import Slot, Slots
from .tally import DETACHED, Outcome, Overflow, Spill, Tally, nowhere

log = logging.getLogger(__name__)

_AGAIN = 1_000_000_000  # nanoseconds until a process that found no memory asks again


class Space(Protocol):
    """What a row needs of its ledger."""

    @property
    def scope(self) -> str:
        """`host` if other processes see it."""

    @property
    def path(self) -> str:
        """The file, or `memory`."""

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a row its memory."""

    def block(self, number: int, now: int) -> int | None:
        """Return the number-th block of this process, None if the host has no more."""

    def log(self, index: int, change: StateChange, wall: int) -> None:
        """Append to the host's log of transitions. Caller holds the ledger lock."""

    def lead(self) -> int:
        """Return until when the fleet leads the circuits of this host, 0 if there is none."""

    def stir(self) -> None:
        """Tell the host's agent that there is something to do."""


class Pooled(Tally):
    """A tally of a process's pool, which goes back there even if its call is cut off in the middle."""

    __slots__ = ("__weakref__", "_row", "lane")

    def __init__(self, cells: memoryview, row: "Row", lane: int) -> None:
        self._row = row
        self.lane = lane
        super().__init__(cells, row.head)

    def __del__(self) -> None:
        # Its call ended without a word: a signal handler, or another thread, raised between two steps of the breaker.
        # Only noted here: a finalizer runs anywhere, also where its thread holds a lock.
        if getattr(self, "word", DETACHED) != DETACHED:  # it has none if even its making was cut off
            self._row.dropped.append((self.cells, self.lane, self.word))


class Row:
    """The cells of a breaker, and this process's pool of tallies in them."""

    def __init__(self, index: int, cells: memoryview, space: Space) -> None:
        self.index = index
        self.head = cells[: at.PAGE]
        #: tallies that no call uses; list.pop and list.append are atomic, so taking one needs no lock
        self.idle: list[Tally] = []
        #: cells, lane and word of the tallies that their calls have lost
        self.dropped: list[tuple[memoryview, int, int]] = []
        self._cells = cells
        self._name = self.head[at.NAME]
        self._space = space
        self._lanes = 0
        self._pooled: weakref.WeakSet[Pooled] = weakref.WeakSet()
        self._lock = threading.RLock()  # a log handler may call through the breaker
        self._spill: Spill | None = None
        self._full_at: int | None = None
        #: what its bulkheads share out
        self.slots = Slots(self._slot)

    def grow(self, now: int) -> Tally:
        """Return one more tally."""
        self.recover()
        with self._lock:
            if self.idle:
                return self.idle.pop()
            # The first is kept back for the calls that find no other.
            if self._spill is None and (first := self._lane(0, now)) is not None:
                self._spill = Spill(Tally(first, self.head), seen=True)
            if self._spill and (cells := self._lane(1 + self._lanes, now)) is not None:
                self._lanes += 1
                return self._pool(cells, self._lanes)
            return Overflow(self._spill or Spill(Tally(nowhere(at.TALLY_CELLS), self.head), seen=False))

    def _pool(self, cells: memoryview, lane: int) -> Pooled:
        tally = Pooled(cells, self, lane)
        self._pooled.add(tally)
        return tally

    def recover(self) -> None:
        """Put the tallies back that their calls have lost."""
        with self._lock:
            while self.dropped:
                cells, lane, word = self.dropped.pop()
                tally = self._pool(cells, lane)  # a new one: an object is finalized only once
                tally.word = word
                if cells[at.STARTED]:
                    tally.abandon()
                    self.head[at.HALTED] = 0
                tally.word = -1
                self.idle.append(tally)

    def free(self, tally: Tally) -> None:
        """Give a tally back. One that is not in the ledger is dropped: the next call may find a better one."""
        if tally.word != DETACHED and not isinstance(tally, Overflow):
            self.idle.append(tally)

    def _lane(self, number: int, now: int) -> memoryview | None:
        block_number, lane = divmod(number, at.TALLIES)
        block = self._space.block(block_number, now)
        if block is None:
            return None
        if not self.head[at.USED + block]:
            if self._full_at is not None and now - self._full_at < _AGAIN:
                return None
            try:
                self._space.allocate(self.index, 1 + block)
            except LedgerFullError as error:
                # A call must not fail for that; it is then guarded by what the other processes see.
                log.warning("calls of this process are not counted: %s", error)
                self._full_at = now
                return None
            self.head[at.USED + block] = 1
        cells = tally_of(self._cells, block, lane).cells
        cells[at.ADMITTED] = cells[at.ADMITTED] or 1  # readers skip a tally that was never handed out
        return cells

    @property
    def sane(self) -> bool:
        """Whether its head makes sense: else somebody has written over it."""
        return self.head[at.NAME] == self._name and at.is_row(self.head)

    def led(self, now: int) -> bool:
        """Return whether the fleet has put the circuit into its state, and alone may change it.

        A fleet that has not been heard of for a while leads no more: the host then decides for itself.
        """
        return bool(self.head[at.LED]) and now < self._space.lead()

    def want(self) -> None:
        """Ask the host's agent for a permit of the fleet."""
        self.head[at.WANTED] = 1
        self._space.stir()

    def tell(self) -> None:
        """Have the host's agent tell the fleet that one of its probes has ended."""
        self.head[at.PROBED] = 1
        self._space.stir()

    def quiet(self) -> bool:
        """Return whether only a call can change the state: none runs, and none has failed lately."""
        state = state_of(self.head[at.WORD])
        if state is not State.CLOSED or self.head[at.CALM] != self.head[at.WORD]:
            return state is State.OPEN
        starts = [(1 + block) * at.PAGE for block in at.blocks(self._cells)]
        return not any(any(self._cells[s + at.TALLY : s + at.PAGE : at.TALLY_CELLS].tolist()) for s in starts)

    def pages(self) -> list[memoryview]:
        """Return the cells of every block that has memory."""
        starts = [(1 + block) * at.PAGE for block in at.blocks(self._cells)]
        return [self._cells[start : start + at.PAGE] for start in starts]

    def log(self, change: StateChange, wall: int) -> None:
        """Append to the host's log of transitions. Caller holds the ledger lock."""
        self._space.log(self.index, change, wall)

    def note_failure(self, now: int, kind: str) -> None:
        """Remember when a call failed last in this process, and the name of its exception."""
        notice()
        with self._lock:
            block = self._space.block(0, now)
            if block is not None and self.head[at.USED + block]:
                start = (1 + block) * at.PAGE
                self._cells[start + at.FAILED_AT] = 0  # a reader that finds 0 does not trust the name
                at.put_text(self._cells, start + at.FAILED_TYPE, at.FAILED_TYPE_CELLS, kind)
                self._cells[start + at.FAILED_AT] = now

    def _slot(self, number: int) -> Slot:
        """Return a slot: a lock file, where other processes see the ledger."""
        if self._space.scope != "host":
            return Slot(number)
        from .filelock import FileSlot  # not above: some systems have no such locks

        return FileSlot(number, f"{self._space.path}.locks/slot-{self.index}-{number}")

    def renew(self) -> None:
        """Forget the parent's tallies, in a forked child. What still writes to them writes to nowhere."""
        self._lock = threading.RLock()
        self.slots.renew()
        for tally in self._pooled:
            # No slice: a call that is quick would not look at the word.
            tally.cells, tally.word, tally.slice_end = nowhere(at.TALLY_CELLS), DETACHED, 0
        self._pooled = weakref.WeakSet()
        self._lanes = 0
        if self._spill:
            self._spill.renew(nowhere(at.TALLY_CELLS))
            self._spill = None
        self.idle.clear()
        self.dropped.clear()


def tally_of(cells: memoryview, block: int, lane: int) -> Tally:
    """Return one tally of a block of a row."""
    start = (1 + block) * at.PAGE + at.TALLY + lane * at.TALLY_CELLS
    return Tally(cells[start : start + at.TALLY_CELLS], cells[: at.PAGE])


def inherit(cells: memoryview, block: int, now: int) -> int:
    """Take over a row's block whose owner died: its totals go on, its running calls become failures.

    Returns the number of those calls. The caller owns the block.
    """
    head, lost = cells[: at.PAGE], 0
    if not head[at.USED + block]:
        return 0
    for lane in range(at.TALLIES):
        tally = tally_of(cells, block, lane)
        tally.started, tally.word = tally.cells[at.STARTED], tally.cells[at.ADMITTED]
        probe, permits = state_of(tally.word) is State.HALF_OPEN, tally.permits_out()
        tally.cells[at.ROUND_FAILURES] += permits
        # A probe that has voted has been counted, and one without a permit never ran: its process died in between.
        if tally.started and (permits or not probe):
            _bury_call(tally, now)
            lost += 1
            head[at.HALTED] = 0
        tally.cells[at.STARTED] = 0
    return lost


def _bury_call(tally: Tally, now: int) -> None:
    head = tally.head
    if generation_of(tally.word) != generation_of(head[at.WORD]):
        tally.count(at.LATE)
    elif state_of(tally.word) is State.DISABLED:
        tally.count(at.NEUTRAL)
    else:
        tally.record(now, Outcome.FAILURE, slow=False)
        head[at.BROKEN] = 1
        head[at.CALM] = 0
