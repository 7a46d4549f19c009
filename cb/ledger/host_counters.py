"""Counters of the processes that have no shard: in the head of a record, so that they always have memory.

A process counts in private memory first and adds that to the record under a lock of the host: at the end of the call if
the lock is free, otherwise at the end of a later one, or at the next tick of the watchdog. No call waits for the lock,
only the end of the process and `Ledger.close` do. Calls are not visible while they run. Until it is added, only this
process's own evaluations see an outcome.
"""

import atexit
import weakref
from collections.abc import Callable, Iterable

from cb.clocks import monotonic
from cb.errors import LedgerError
from cb.states import State

from . import layout as at
from .counters import Counters, SharedCounters, private_cells
from .layout import generation_of, state_of
from .memory import Lock

#: seconds to wait for the lock of the round at the end of a probe
LOCK_TIMEOUT_SECONDS = 0.02
#: seconds to wait for the lock when this process adds for the last time
LAST_LOCK_TIMEOUT_SECONDS = 1.0
#: seconds without the lock after which the ledger is degraded, and seconds with it after which it no longer is
_DEGRADED_AFTER_SECONDS, _RESTORED_AFTER_SECONDS = 1.0, 10.0


class HostCounters(SharedCounters):
    """The HOST_COUNTERS of one record, as one process uses them.

    Args:
        head: the head of the record.
        lock: the lock for HOST_COUNTERS.
        round_lock: the ledger lock, under which permits are counted.
        note: called with the error when counts cannot be shared, and with None when they can again.
    """

    __slots__ = (
        "__weakref__",
        "_degraded_at",
        "_failing_since",
        "_in_record",
        "_lock",
        "_note",
        "_now",
        "_round_lock",
        "own",
    )

    def __init__(
        self, head: memoryview, lock: Lock, round_lock: Lock, note: Callable[[LedgerError | None], object]
    ) -> None:
        #: laid out as HOST_COUNTERS: the counts of this process that are not added yet
        self.own = private_cells(at.HOST_COUNTERS_CELLS)
        super().__init__(_Pending(self.own[at.STRIPES_START :], head))
        start = at.HOST_COUNTERS + at.STRIPES_START
        self._in_record = Counters(head[start : start + at.STRIPE_CELLS], head)
        self._lock: Lock | None = lock
        self._round_lock: Lock | None = round_lock
        self._note = note
        self._now = 0
        self._failing_since: float | None = None
        self._degraded_at: float | None = None
        _ALL.add(self)

    def run(self, work: Callable[[Counters], object], now: int = 0) -> None:
        super().run(work)
        self.add(now)

    def add(self, now: int, timeout: float = 0.0) -> None:
        """Add the pending counts to the record if the lock is free within `timeout` seconds."""
        self._now = max(self._now, now)
        if self._lock and any(self.own[at.STRIPES_START + at.FULL :].tolist()):
            try:
                self._lock.run(self._add_locked, timeout)
            except LedgerError as error:
                self._failing_since = self._failing_since or monotonic()
                if monotonic() - self._failing_since >= _DEGRADED_AFTER_SECONDS:
                    self._note_degraded(error)
                return
        self._failing_since = None
        if self._degraded_at is not None and monotonic() - self._degraded_at >= _RESTORED_AFTER_SECONDS:
            self._degraded_at = None
            self._note(None)

    def _note_degraded(self, error: LedgerError) -> None:
        self._degraded_at = monotonic()
        self._note(error)

    def _add_locked(self) -> None:
        with self.lock:
            self._in_record.merge(self.counters, self._now)

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        self._now = max(self._now, now)
        if state_of(word) is State.HALF_OPEN and not nested:  # the caller holds the lock of the round
            self._in_record.cells[at.ADMITTED] = word
            self._in_record.take_permit(generation_of(word))

    def end_probe(self, word: int, total: int) -> None:
        def count() -> None:
            self._in_record.word = word
            self._in_record.end_probe(total)

        if self._round_lock:
            try:
                self._round_lock.run(count, LOCK_TIMEOUT_SECONDS)
            except LedgerError as error:  # without this outcome the round ends without a verdict, and another begins
                self._note_degraded(error)

    def detach(self) -> None:
        super().detach()
        self._lock = self._round_lock = None


class _Pending(Counters):
    """Counts of one process that are not yet added to the record.

    When a new generation begins, outcomes of the last one are late.
    """

    __slots__ = ()

    def begin_generation(self, word: int) -> None:
        cells = self.cells
        if generation_of(cells[at.ADMITTED]) != generation_of(word):
            cells[at.LATE] += sum(cells[at.SUCCESSES : at.WINDOW].tolist())
            for cell in (at.SLOW, at.ELAPSED, *range(at.SUCCESSES, at.WINDOW)):
                cells[cell] = 0
        super().begin_generation(word)


_ALL: weakref.WeakSet[HostCounters] = weakref.WeakSet()


@atexit.register
def _add_all() -> None:
    add_for_the_last_time(list(_ALL), 0)


def add_for_the_last_time(all_counters: Iterable[HostCounters | None], now: int) -> None:
    """Add the pending counts of all. Those that get no lock within a second altogether are lost."""
    end = monotonic() + LAST_LOCK_TIMEOUT_SECONDS
    for counters in all_counters:
        if counters:
            counters.add(now, max(0.0, end - monotonic()))
