"""One breaker's part of a ledger, as one process uses it."""

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cb.background.fork import FORK_MARK, detect_fork
from cb.config import BreakerConfig
from cb.errors import LedgerError, LedgerFullError
from cb.events import StateChange
from cb.states import Scope, State

from . import layout as at
from .counters import DETACHED, Counters, OverflowCounters, SharedCounters, private_cells
from .dead_workers import mend
from .degradation import NO_SHARD, UNCOUNTED
from .host_counters import HostCounters
from .last_failure import Worker, this_worker, write_last_failure
from .layout import state_of
from .semaphore import Permit, Semaphore
from .shards import process_number
from .time_bounds import lease_active

if TYPE_CHECKING:
    from .core import LedgerCore

#: nanoseconds until a process that found no memory tries again
_RETRY_INTERVAL_NS = 1_000_000_000
#: most probes that a round admits beyond its permits
MAX_EXTRA_PERMITS = 10
#: nanoseconds without a call after which a shard is given up
SHARD_IDLE_NS = 3_000_000_000
#: WORD of a record that its breakers have left: CLOSED, and of a generation that no call has
_RETIRED_WORD = 1 << 62
_ONE_BY_ONE = "calls of this process are counted one by one, and not visible while they run"


class PooledCounters(Counters):
    """Counters of a process's pool, which return there even if their call is cut off in the middle."""

    __slots__ = ("_record", "number")

    def __init__(self, cells: memoryview, record: "Record", number: int) -> None:
        self._record = record
        self.number = number
        super().__init__(cells, record.head)

    @property
    def readable(self) -> bool:
        return not self._record.retired

    def __del__(self) -> None:
        # The call was cut off: a signal handler, or another thread, raised between two steps of the breaker. It is only
        # noted here: a finalizer runs anywhere, also where its thread holds a lock.
        if getattr(self, "word", DETACHED) != DETACHED:  # it has none if even its creation was cut off
            self._record.dropped.append((self.cells, self.number, self.word))


class Record:
    """The cells of a breaker, and this process's pool of counters in them.

    Args:
        index: number of the record in the ledger.
        cells: the head and the shards.
        ledger: the ledger that it belongs to.
    """

    def __init__(self, index: int, cells: memoryview, ledger: "LedgerCore") -> None:
        self.index = index
        self.head = cells[: at.PAGE]
        #: counters that no call uses; list.pop and list.append are atomic, so taking some needs no lock
        self.idle: list[Counters] = []
        #: cells, number and word of the counters that their calls have dropped
        self.dropped: list[tuple[memoryview, int, int]] = []
        #: the ledger that it belongs to
        self.ledger = ledger
        #: True once its breakers have moved to another record
        self.retired = False
        #: WORD when an admission of this process last evaluated the window
        self.evaluated = 0
        #: sums of its pages by number, and the moment that they are of, as `cb.state.window` keeps them
        self.page_sums: tuple[tuple[int, int], dict[int, Any]] = (0, 0), {}
        #: number of times that its cells have become those of another file
        self.remaps = 0
        self._cells = cells
        self._name = self.head[at.NAME]
        self._numbers: dict[int, object] = {}  # of the stripes in the pool, through all shards of this process
        self._idle_since: dict[int, int] = {}  # by number of a shard
        self._pooled: weakref.WeakSet[PooledCounters] = weakref.WeakSet()
        self._lock = threading.RLock()  # a log handler may call through the breaker
        self._shared: SharedCounters | None = None
        #: counters of this process where it has no shard; None until it has needed them
        self.host_counters: HostCounters | None = None
        self._full_at: int | None = None
        self._worker: Worker | None = None
        #: permits of its bulkheads
        self.semaphore = Semaphore(self._permit)

    def __repr__(self) -> str:
        name = at.get_text(self.head, at.NAME, at.NAME_CELLS)
        return f"<Record {self.index} {name!r} {state_of(self.head[at.WORD])} of {self.ledger.path}>"

    @property
    def identity(self) -> object:
        """Equal for all records of a process that have the same cells, through any object of a ledger."""
        return (self.ledger.path, self.index) if self.ledger.scope is Scope.HOST else self

    # The pool of counters

    def grow(self, now: int) -> Counters:
        """Return additional counters, or idle ones if there are some again."""
        self.recover()
        with self._lock:
            if self.idle:
                return self.idle.pop()
            shared = self._own_shared_counters(now)
            number, cells = self._reserve(), None
            try:
                cells = self._stripe(number, now) if shared else None
            finally:
                if cells is None:
                    del self._numbers[number]
            if cells is not None:
                return self._pool(cells, number)
            return OverflowCounters(shared or self._counters_of_host())

    def _reserve(self) -> int:
        """Return the lowest number that no stripe has. A signal handler may reserve one at any step of this."""
        mine, number = object(), 1
        while self._numbers.setdefault(number, mine) is not mine:
            number += 1
        return number

    def _own_shared_counters(self, now: int) -> SharedCounters | None:
        """Return the first stripe, which is reserved for the calls that find no other."""
        if self._shared is None and (first := self._stripe(0, now)) is not None:
            self._shared = SharedCounters(Counters(first, self.head))
            if self.ledger.degradation.reasons:
                self.ledger.degradation.note(NO_SHARD, self.index, None)
                self.ledger.degradation.note(UNCOUNTED, self.index, None)
        return self._shared

    def _counters_of_host(self) -> SharedCounters:
        if self.host_counters is None:
            ledger = self.ledger
            self.host_counters = HostCounters(self.head, ledger.host_counters_lock, ledger.lock, self._note_uncounted)
        return self.host_counters

    def _note_uncounted(self, error: LedgerError | None) -> None:
        reason = f"calls of this process are not counted for others: {error}" if error else None
        self.ledger.degradation.note(UNCOUNTED, self.index, reason)

    def _pool(self, cells: memoryview, number: int) -> PooledCounters:
        counters = PooledCounters(cells, self, number)
        self._pooled.add(counters)
        return counters

    def recover(self) -> None:
        """Return the counters to the pool that their calls have dropped."""
        with self._lock:
            while self.dropped:
                cells, number, word = self.dropped.pop()
                counters = self._pool(cells, number)  # a new one: an object is finalized only once
                counters.word = word
                if cells[at.STARTED]:
                    counters.abandon()
                    self.head[at.NO_PERMIT] = 0
                counters.word = -1
                self.idle.append(counters)

    def free(self, counters: Counters) -> None:
        """Return counters to the pool. Those of another record, or not in the ledger, are dropped."""
        if counters.word == DETACHED or counters.head is not self.head or isinstance(counters, OverflowCounters):
            return
        self.idle.append(counters)

    def tick(self, now: int) -> None:
        """Find dropped counters, give idle shards up, and try again to get the first shard. Called by the watchdog."""
        self.recover()
        with self._lock:
            if self.host_counters and not self.retired:
                self.host_counters.add(now)
                self._own_shared_counters(now)
            if self._idle_since or (self._numbers and max(self._numbers) >= at.STRIPES):
                self._give_up_idle_shards(now)

    def _give_up_idle_shards(self, now: int) -> None:
        """Give up each shard, except the first, whose counters were idle at every tick for a while."""
        idle = {counters.number for counters in list(self.idle) if isinstance(counters, PooledCounters)}
        pooled = list(self._numbers)  # a signal handler may reserve another one meanwhile
        # Those that an interruption kept from being given up have no stripe in the pool any more.
        for shard in ({number // at.STRIPES for number in pooled} | set(self._idle_since)) - {0}:
            numbers = {number for number in pooled if number // at.STRIPES == shard}
            if not numbers <= idle:
                self._idle_since.pop(shard, None)
            elif abs(now - self._idle_since.setdefault(shard, now)) >= SHARD_IDLE_NS:
                self._drop(numbers)
                if not any(number // at.STRIPES == shard for number in list(self._numbers)):
                    self.ledger.leave_shard(shard, self.index)
                    del self._idle_since[shard]

    def _drop(self, numbers: set[int]) -> None:
        for counters in list(self.idle):
            if isinstance(counters, PooledCounters) and counters.number in numbers:
                try:
                    self.idle.remove(counters)
                except ValueError:  # a call has just taken it
                    continue
                counters.word = DETACHED
                self._numbers.pop(counters.number, None)

    def retire(self) -> None:
        """Admit no more calls, because the breakers move to another record. Running calls end here, and are not kept.

        Functions that were guarded before read this head first: it has nothing that lets them take the quick path.
        """
        with self._lock:
            self.retired = True
            self.head[at.QUIET] = self.head[at.QUIET_UNTIL] = 0
            self.head[at.WORD] = _RETIRED_WORD
            self.idle.clear()
            self.semaphore.reset_after_fork()

    def _stripe(self, number: int, now: int) -> memoryview | None:
        """Return the cells of a stripe, counted through all shards of this process; None if there are none."""
        shard_number, stripe = divmod(number, at.STRIPES)
        shard = self.ledger.shard(shard_number, now, self.index)
        if shard is None:
            if not number:
                self.ledger.degradation.note(NO_SHARD, self.index, f"{self.ledger.shard_fault}; {_ONE_BY_ONE}")
            return None
        if not self.head[at.SHARD_ALLOCATED + shard]:
            if self._full_at is not None and abs(now - self._full_at) < _RETRY_INTERVAL_NS:
                return None
            try:
                self.ledger.allocate(self.index, 1 + shard)
            except LedgerFullError as error:
                # A call must not fail because of that.
                self._full_at = now
                if not number:
                    self.ledger.degradation.note(NO_SHARD, self.index, f"{error}; {_ONE_BY_ONE}")
                return None
            self.head[at.SHARD_ALLOCATED + shard] = 1
        cells = Counters.in_stripe(self._cells, shard, stripe).cells
        mend(cells)
        cells[at.ADMITTED] = cells[at.ADMITTED] or 1  # readers skip a stripe that was never handed out
        return cells

    # Supervision

    @property
    def valid(self) -> bool:
        """True if its head is valid. Otherwise another program has written over it."""
        return self.head[at.NAME] == self._name and at.is_record(self.head)

    def intact(self) -> bool:
        """Return True if the idle counters still hold the counts of their calls."""
        for counters in list(self.idle):
            fast = counters.fast_successes
            overwritten = counters.slice_end and counters.cells[at.SUCCESSES] != fast == counters.fast_successes
            if overwritten and counters in self.idle:
                return False
        return True

    def reload_counters(self) -> None:
        """Continue from the cells as they are: another process may have had the shard."""
        for counters in list(self.idle):
            counters.slice_end = 0

    def only_calls_matter(self) -> bool:
        """Return True if only a call can change the state: none runs, and none has failed lately."""
        state = state_of(self.head[at.WORD])
        if state is not State.CLOSED or self.head[at.QUIET] != self.head[at.WORD]:
            return state is State.OPEN
        starts = [(1 + shard) * at.PAGE for shard in at.allocated_shards(self._cells)]
        return not any(any(self._cells[s + at.STRIPES_START : s + at.PAGE : at.STRIPE_CELLS].tolist()) for s in starts)

    # The fleet

    def fleet_controlled(self, now: int) -> bool:
        """Return True if the fleet has set the circuit's state, and it alone may change it.

        A fleet that has not been reached for a while loses that right: the host then decides by itself.
        """
        return bool(self.head[at.FLEET_CONTROLLED]) and lease_active(self.ledger.fleet_lease_until(), now)

    def permits(self, config: BreakerConfig, now: int) -> int:
        """Return the number of probes that the round admits."""
        permits = self.head[at.PERMITS] if self.fleet_controlled(now) else config.max_requests
        return permits + min(max(self.head[at.EXTRA_PERMITS], 0), MAX_EXTRA_PERMITS)

    def request_probe(self) -> None:
        """Have the host's agent request a permit of the fleet."""
        self.head[at.PROBE_REQUESTED] = 1
        self.ledger.wake_agent()

    def notify_agent(self) -> None:
        """Have the host's agent report the end of a probe to the fleet."""
        self.head[at.PROBE_ENDED] = 1
        self.ledger.wake_agent()

    # Reading and logging

    def pages(self, *, own: bool = False) -> list[memoryview]:
        """Return the cells of every shard that has memory, and the HOST_COUNTERS, laid out as a shard with one stripe.

        `own` adds the counts that are pending in this process.
        """
        starts = [(1 + shard) * at.PAGE for shard in at.allocated_shards(self._cells)]
        pages = [self._cells[start : start + at.PAGE] for start in starts]
        if self.head[at.HOST_COUNTERS + at.STRIPES_START + at.ADMITTED]:
            pages.append(self.head[at.HOST_COUNTERS : at.HOST_COUNTERS + at.HOST_COUNTERS_CELLS])
        if own and self.host_counters:
            pages.append(self.host_counters.own)
        return pages

    def log(self, change: StateChange, wall: int) -> StateChange:
        """Append to the history of transitions, and return the change with number and time.

        The caller holds the ledger lock.
        """
        return self.ledger.log(self.index, change, wall)

    def owned_pages(self) -> Iterator[tuple[int, memoryview]]:
        """Yield process number and cells of every shard that has memory and an owner."""
        for shard in at.allocated_shards(self._cells):
            if owner := self.ledger.header[at.H_SHARD_OWNERS + shard]:
                yield owner, self._cells[(1 + shard) * at.PAGE : (2 + shard) * at.PAGE]

    def note_failure(self, now: int, kind: str, status: int | None = None, message: str = "") -> None:
        """Store a failure of this process as the last one. No user code runs here."""
        if not FORK_MARK[0]:
            detect_fork()
        if self._worker is None:
            self._worker = this_worker(process_number())
        write_last_failure(self.head, now, self._worker, kind, status=status, message=message)

    def _permit(self, number: int) -> Permit:
        """Create a permit: a lock file, if other processes share the ledger."""
        if self.ledger.scope is not Scope.HOST:
            return Permit(number)
        from .locks import FilePermit  # not above: some systems have no such locks

        return FilePermit(number, f"{self.ledger.path}.locks/permit-{self.index}-{number}")

    def reset_after_fork(self) -> None:
        """Drop the parent's counters, in a forked child. Calls that still use them write to private cells."""
        self._lock = threading.RLock()
        self.evaluated = 0
        self.semaphore.reset_after_fork()
        for counters in self._pooled:
            # No slice: a call on the quick path would not check the word.
            counters.cells, counters.word, counters.slice_end = private_cells(at.STRIPE_CELLS), DETACHED, 0
            counters.scope = None  # the probe goes on in the parent: calls of the child are not inside of it
        self._pooled = weakref.WeakSet()
        self._numbers = {}
        self._idle_since = {}
        for shared in (self._shared, self.host_counters):
            if shared:
                shared.detach()
        self._shared = self.host_counters = self._worker = None
        self.idle.clear()
        self.dropped.clear()
