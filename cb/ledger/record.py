"""One breaker's part of a ledger, as one process sees it."""

import threading
import weakref
from typing import Protocol

from cb.background.fork import detect_fork
from cb.config import BreakerConfig
from cb.errors import LedgerError, LedgerFullError
from cb.events import StateChange
from cb.states import Outcome, State

from . import layout as at
from .counters import DETACHED, PAUSED, Counters, OverflowCounters, SharedCounters, private_cells
from .degradation import Degradation
from .layout import generation_of, state_of
from .memory import Lock
from .semaphore import Permit, Semaphore
from .shared_counters import HostCounters
from .time_bounds import lease_active

_AGAIN = 1_000_000_000  # nanoseconds until a process that found no memory asks again
#: probes that a round admits at most beyond its permits
MAX_EXTRA_PERMITS = 10
#: nanoseconds for which no call may have been seen in a block that is given back
KEEP = 3_000_000_000
#: WORD of a row that its breakers have left: CLOSED, and of no stay that any tally knows
_LEFT = 1 << 62
_ONE_BY_ONE = "calls of this process are counted one by one, and not seen while they run"


class Storage(Protocol):
    """What a row needs of its ledger."""

    @property
    def scope(self) -> str:
        """`host` if other processes see it."""

    @property
    def path(self) -> str:
        """The file, or `memory`."""

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a row its memory."""

    @property
    def lock(self) -> Lock:
        """The lock under which circuits change their state."""

    @property
    def commons(self) -> Lock:
        """The lock under which the commons of all rows are written."""

    def block(self, number: int, now: int, row: int | None = None) -> int | None:
        """Return the number-th block of this process, None if the host has no more. A row that has it must leave it."""

    @property
    def complaint(self) -> str:
        """Why this process has no block."""

    def leave(self, number: int, row: int) -> None:
        """Give a block back, unless another row has tallies in it."""

    @property
    def troubles(self) -> Degradation:
        """The list in which a row notes why its calls are not counted as they should be."""

    def log(self, index: int, change: StateChange, wall: int) -> StateChange:
        """Append to the host's log of transitions. Caller holds the ledger lock."""

    def fleet_lease_until(self) -> int:
        """Return until when the fleet leads the circuits of this host, 0 if there is none."""

    def wake_agent(self) -> None:
        """Tell the host's agent that there is something to do."""


class PooledCounters(Counters):
    """A tally of a process's pool, which goes back there even if its call is cut off in the middle."""

    __slots__ = ("_row", "stripe")

    def __init__(self, cells: memoryview, row: "Record", stripe: int) -> None:
        self._row = row
        self.stripe = stripe
        super().__init__(cells, row.head)

    @property
    def seen(self) -> bool:
        return not self._row.left

    def __del__(self) -> None:
        # Its call ended without a word: a signal handler, or another thread, raised between two steps of the breaker.
        # Only noted here: a finalizer runs anywhere, also where its thread holds a lock.
        if getattr(self, "word", DETACHED) != DETACHED:  # it has none if even its making was cut off
            self._row.dropped.append((self.cells, self.stripe, self.word))


class Record:
    """The cells of a breaker, and this process's pool of tallies in them."""

    def __init__(self, index: int, cells: memoryview, space: Storage) -> None:
        self.index = index
        self.head = cells[: at.PAGE]
        #: tallies that no call uses; list.pop and list.append are atomic, so taking one needs no lock
        self.idle: list[Counters] = []
        #: cells, lane and word of the tallies that their calls have lost
        self.dropped: list[tuple[memoryview, int, int]] = []
        #: the ledger that it is in
        self.storage = space
        #: whether its breakers have gone to another row
        self.left = False
        #: how often its cells have become those of another file
        self.remaps = 0
        self._cells = cells
        self._name = self.head[at.NAME]
        self._stripes: set[int] = set()  # those that have tallies
        self._quiet_since: dict[int, int] = {}  # by number of a block
        self._pooled: weakref.WeakSet[PooledCounters] = weakref.WeakSet()
        self._lock = threading.RLock()  # a log handler may call through the breaker
        self._spill: SharedCounters | None = None
        self._commons: HostCounters | None = None
        self._full_at: int | None = None
        #: what its bulkheads share out
        self.slots = Semaphore(self._slot)

    def grow(self, now: int) -> Counters:
        """Return one more tally."""
        self.recover()
        with self._lock:
            if self.idle:
                return self.idle.pop()
            spill = self._own_spill(now)
            number = next(number for number in range(1, len(self._stripes) + 2) if number not in self._stripes)
            if spill and (cells := self._stripe(number, now)) is not None:
                self._stripes.add(number)
                return self._pool(cells, number)
            return OverflowCounters(spill or self._shared_spill())

    def _own_spill(self, now: int) -> SharedCounters | None:
        """Return the first lane, which is kept back for the calls that find no other."""
        if self._spill is None and (first := self._stripe(0, now)) is not None:
            self._spill = SharedCounters(Counters(first, self.head))
            self.storage.troubles.note_uncounted(self.index, None)
            self.storage.troubles.note_unshared(self.index, None)
        return self._spill

    def _shared_spill(self) -> SharedCounters:
        if self._commons is None:
            self._commons = HostCounters(self.head, self.storage.commons, self.storage.lock, self._note_alone)
        return self._commons

    def _note_alone(self, error: LedgerError | None) -> None:
        reason = f"calls of this process are not counted for others: {error}" if error else None
        self.storage.troubles.note_unshared(self.index, reason)

    def _pool(self, cells: memoryview, stripe: int) -> PooledCounters:
        tally = PooledCounters(cells, self, stripe)
        self._pooled.add(tally)
        return tally

    def recover(self) -> None:
        """Put the tallies back that their calls have lost."""
        with self._lock:
            while self.dropped:
                cells, stripe, word = self.dropped.pop()
                tally = self._pool(cells, stripe)  # a new one: an object is finalized only once
                tally.word = word
                if cells[at.STARTED]:
                    tally.abandon()
                    self.head[at.NO_PERMIT] = 0
                tally.word = -1
                self.idle.append(tally)

    def free(self, tally: Counters) -> None:
        """Give a tally back. One that is of another row, or not in the ledger, is dropped."""
        if tally.word != DETACHED and tally.head is self.head and not isinstance(tally, OverflowCounters):
            self.idle.append(tally)

    def tick(self, now: int) -> None:
        """Do what no call does: find lost tallies, give back blocks, and try again to get the first."""
        self.recover()
        with self._lock:
            if self._commons and not self.left:
                self._commons.add(now)
                self._own_spill(now)
            if self._quiet_since or (self._stripes and max(self._stripes) >= at.STRIPES):
                self._give_back(now)

    def _give_back(self, now: int) -> None:
        """Give back each block, but the first, whose tallies were idle at every look for a while."""
        idle = {tally.stripe for tally in list(self.idle) if isinstance(tally, PooledCounters)}
        # Those that an interruption has kept from being given back have no lane any more.
        for number in ({stripe // at.STRIPES for stripe in self._stripes} | set(self._quiet_since)) - {0}:
            stripes = {stripe for stripe in self._stripes if stripe // at.STRIPES == number}
            if not stripes <= idle:
                self._quiet_since.pop(number, None)
            elif abs(now - self._quiet_since.setdefault(number, now)) >= KEEP:
                self._drop(stripes)
                if not any(stripe // at.STRIPES == number for stripe in self._stripes):
                    self.storage.leave(number, self.index)
                    del self._quiet_since[number]

    def _drop(self, stripes: set[int]) -> None:
        for tally in list(self.idle):
            if isinstance(tally, PooledCounters) and tally.stripe in stripes:
                try:
                    self.idle.remove(tally)
                except ValueError:  # a call has just taken it
                    continue
                tally.word = DETACHED
                self._stripes.discard(tally.stripe)

    def leave(self) -> None:
        """Have no more calls, because the breakers go to another row. What still runs ends here, and is not kept.

        Functions that were guarded before look at this head first: they find nothing there that lets them be quick.
        """
        with self._lock:
            self.left = True
            self.head[at.QUIET] = self.head[at.QUIET_UNTIL] = 0
            self.head[at.WORD] = _LEFT
            self.idle.clear()
            self.slots.reset_after_fork()

    def _stripe(self, number: int, now: int) -> memoryview | None:
        block_number, stripe = divmod(number, at.STRIPES)
        block = self.storage.block(block_number, now, self.index)
        if block is None:
            if not number:
                self.storage.troubles.note_uncounted(self.index, f"{self.storage.complaint}; {_ONE_BY_ONE}")
            return None
        if not self.head[at.SHARD_ALLOCATED + block]:
            if self._full_at is not None and abs(now - self._full_at) < _AGAIN:
                return None
            try:
                self.storage.allocate(self.index, 1 + block)
            except LedgerFullError as error:
                # A call must not fail for that.
                self._full_at = now
                if not number:
                    self.storage.troubles.note_uncounted(self.index, f"{error}; {_ONE_BY_ONE}")
                return None
            self.head[at.SHARD_ALLOCATED + block] = 1
        cells = counters_at(self._cells, block, stripe).cells
        _mend(cells)
        cells[at.ADMITTED] = cells[at.ADMITTED] or 1  # readers skip a tally that was never handed out
        return cells

    @property
    def identity(self) -> object:
        """Equal for all rows of a process that have the same cells, through whichever object of a ledger."""
        return (self.storage.path, self.index) if self.storage.scope == "host" else self

    @property
    def sane(self) -> bool:
        """True if its head is valid. Otherwise another program has written over it."""
        return self.head[at.NAME] == self._name and at.is_record(self.head)

    def as_left(self) -> bool:
        """Return whether the tallies that no call uses say what was counted in them."""
        for tally in list(self.idle):
            brief = tally.fast_successes
            if tally.slice_end and tally.cells[at.SUCCESSES] != brief == tally.fast_successes and tally in self.idle:
                return False
        return True

    def reload_counters(self) -> None:
        """Count on from what the tallies say by now: another process may have had the block."""
        for tally in list(self.idle):
            tally.slice_end = 0

    def fleet_controlled(self, now: int) -> bool:
        """Return whether the fleet has put the circuit into its state, and alone may change it.

        A fleet that has not been heard of for a while leads no more: the host then decides for itself.
        """
        return bool(self.head[at.FLEET_CONTROLLED]) and lease_active(self.storage.fleet_lease_until(), now)

    def permits(self, config: BreakerConfig, now: int) -> int:
        """Return how many probes the round admits."""
        permits = self.head[at.PERMITS] if self.fleet_controlled(now) else config.max_requests
        return permits + min(max(self.head[at.EXTRA_PERMITS], 0), MAX_EXTRA_PERMITS)

    def request_probe(self) -> None:
        """Ask the host's agent for a permit of the fleet."""
        self.head[at.PROBE_REQUESTED] = 1
        self.storage.wake_agent()

    def notify_agent(self) -> None:
        """Have the host's agent tell the fleet that one of its probes has ended."""
        self.head[at.PROBE_ENDED] = 1
        self.storage.wake_agent()

    def quiet(self) -> bool:
        """Return whether only a call can change the state: none runs, and none has failed lately."""
        state = state_of(self.head[at.WORD])
        if state is not State.CLOSED or self.head[at.QUIET] != self.head[at.WORD]:
            return state is State.OPEN
        starts = [(1 + block) * at.PAGE for block in at.blocks(self._cells)]
        return not any(any(self._cells[s + at.STRIPES_START : s + at.PAGE : at.STRIPE_CELLS].tolist()) for s in starts)

    def pages(self, *, own: bool = False) -> list[memoryview]:
        """Return the cells of every block that has memory, and the commons, which are as a block with one tally.

        `own` adds what could be counted for this process alone.
        """
        starts = [(1 + block) * at.PAGE for block in at.blocks(self._cells)]
        pages = [self._cells[start : start + at.PAGE] for start in starts]
        if self.head[at.HOST_COUNTERS + at.STRIPES_START + at.ADMITTED]:
            pages.append(self.head[at.HOST_COUNTERS : at.HOST_COUNTERS + at.HOST_COUNTERS_CELLS])
        if own and self._commons:
            pages.append(self._commons.own)
        return pages

    def log(self, change: StateChange, wall: int) -> StateChange:
        """Append to the host's log of transitions. Caller holds the ledger lock."""
        return self.storage.log(self.index, change, wall)

    def note_failure(self, now: int, kind: str) -> None:
        """Remember when a call failed last in this process, and the name of its exception."""
        detect_fork()
        with self._lock:
            block = self.storage.block(0, now)
            if block is not None and self.head[at.SHARD_ALLOCATED + block]:
                start = (1 + block) * at.PAGE
            elif self._commons:
                start = at.HOST_COUNTERS
            else:
                return
            self._cells[start + at.FAILED_AT] = 0  # a reader that finds 0 does not trust the name
            at.put_text(self._cells, start + at.FAILED_TYPE, at.FAILED_TYPE_CELLS, kind)
            self._cells[start + at.FAILED_AT] = now

    def _slot(self, number: int) -> Permit:
        """Return a slot: a lock file, where other processes see the ledger."""
        if self.storage.scope != "host":
            return Permit(number)
        from .locks import FilePermit  # not above: some systems have no such locks

        return FilePermit(number, f"{self.storage.path}.locks/permit-{self.index}-{number}")

    def reset_after_fork(self) -> None:
        """Forget the parent's tallies, in a forked child. What still writes to them writes to nowhere."""
        self._lock = threading.RLock()
        self.slots.reset_after_fork()
        for tally in self._pooled:
            # No slice: a call that is quick would not look at the word.
            tally.cells, tally.word, tally.slice_end = private_cells(at.STRIPE_CELLS), DETACHED, 0
            tally.scope = None  # the probe goes on in the parent: calls of the child are not inside of it
        self._pooled = weakref.WeakSet()
        self._stripes = set()
        self._quiet_since = {}
        for spill in (self._spill, self._commons):
            if spill:
                spill.detach()
        self._spill = self._commons = None
        self.idle.clear()
        self.dropped.clear()


def counters_at(cells: memoryview, block: int, stripe: int) -> Counters:
    """Return one tally of a block of a row."""
    start = (1 + block) * at.PAGE + at.STRIPES_START + stripe * at.STRIPE_CELLS
    return Counters(cells[start : start + at.STRIPE_CELLS], cells[: at.PAGE])


def adopt(cells: memoryview, block: int, now: int) -> int:
    """Take over a row's block whose owner died: its totals go on, its running calls become failures.

    Returns the number of those calls. The caller owns the block.
    """
    head, lost = cells[: at.PAGE], 0
    if not head[at.SHARD_ALLOCATED + block]:
        return 0
    for tally in (counters_at(cells, block, stripe) for stripe in range(at.STRIPES)):
        _mend(tally.cells)
        if tally.cells[at.STARTED] >= PAUSED:  # the dependency had answered
            tally.abandon()
            continue
        tally.started, tally.word = tally.cells[at.STARTED], tally.cells[at.ADMITTED]
        probe, permits = state_of(tally.word) is State.HALF_OPEN, tally.permits_held()
        tally.cells[at.ROUND_FAILURES] += permits
        # A probe that has voted has been counted, and one without a permit never ran: its process died in between.
        if tally.started and (permits or not probe):
            _bury_call(tally, now)
            lost += 1
            head[at.NO_PERMIT] = 0
        tally.cells[at.STARTED] = 0
    return lost


def _mend(cells: memoryview) -> None:
    """Begin a tally anew that makes no sense: somebody has written over it. The caller owns its block."""
    if not at.is_stripe(cells):
        for cell in range(at.STRIPE_CELLS):
            cells[cell] = 0


def _bury_call(tally: Counters, now: int) -> None:
    head = tally.head
    if generation_of(tally.word) != generation_of(head[at.WORD]):
        tally.count(at.LATE)
    elif state_of(tally.word) is State.DISABLED:
        tally.count(at.NEUTRAL)
    else:
        tally.record(now, Outcome.FAILURE, slow=False)
        head[at.STREAK_ACTIVE] = 1
        head[at.QUIET] = 0
