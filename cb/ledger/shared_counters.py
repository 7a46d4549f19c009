"""The tally that processes without a block share: in the head of a row, and so with memory wherever there is a row.

A process counts for itself first, and adds that to the commons under a lock of the host, at the end of the call if the
lock is free, else of a later one, or when the watch looks: no call waits for it. That a call runs is not seen. Until it
is added, only this process's own evaluations see an outcome.
"""

import atexit
import weakref
from collections.abc import Callable

from cb.clocks import monotonic
from cb.errors import LedgerError
from cb.states import State

from . import layout as at
from .counters import Counters, SharedCounters, private_cells
from .layout import generation_of, state_of
from .memory import Lock

#: seconds for which the end of a probe waits for the lock of the round
LOCK_TIMEOUT_SECONDS = 0.02
#: seconds after which what could not be added is worth a complaint, and after which there is none any more
_LONG, _CALM = 1.0, 10.0


class HostCounters(SharedCounters):
    """The commons of one row, as one process sees them."""

    __slots__ = (
        "__weakref__",
        "_common",
        "_complained_at",
        "_failing_since",
        "_lock",
        "_note",
        "_now",
        "_round",
        "own",
    )

    def __init__(
        self, head: memoryview, lock: Lock, round_lock: Lock, note: Callable[[LedgerError | None], object]
    ) -> None:
        #: laid out as the commons are: what this process has counted and not yet added
        self.own = private_cells(at.HOST_COUNTERS_CELLS)
        super().__init__(_Own(self.own[at.STRIPES_START :], head))
        start = at.HOST_COUNTERS + at.STRIPES_START
        self._common = Counters(head[start : start + at.STRIPE_CELLS], head)
        self._lock: Lock | None = lock
        self._round: Lock | None = round_lock
        self._note = note
        self._now = 0
        self._failing_since: float | None = None
        self._complained_at: float | None = None
        _ALL.add(self)

    def run(self, work: Callable[[Counters], object], now: int = 0) -> None:
        super().run(work)
        self.add(now)

    def add(self, now: int) -> None:
        """Add to the commons what has been counted, if the lock is free."""
        self._now = max(self._now, now)
        if self._lock and any(self.own[at.STRIPES_START + at.FULL :].tolist()):
            try:
                self._lock.run(self._add_locked, 0)
            except LedgerError as error:
                self._failing_since = self._failing_since or monotonic()
                if monotonic() - self._failing_since >= _LONG:
                    self._complain(error)
                return
        self._failing_since = None
        if self._complained_at is not None and monotonic() - self._complained_at >= _CALM:
            self._complained_at = None
            self._note(None)

    def _complain(self, error: LedgerError) -> None:
        self._complained_at = monotonic()
        self._note(error)

    def _add_locked(self) -> None:
        with self.lock:
            self._common.merge(self.tally, self._now)

    def admit(self, word: int, now: int, *, nested: bool = False) -> None:
        self._now = max(self._now, now)
        if state_of(word) is State.HALF_OPEN and not nested:  # the caller holds the lock of the round
            self._common.cells[at.ADMITTED] = word
            self._common.take(generation_of(word))

    def end_probe(self, word: int, total: int) -> None:
        def vote() -> None:
            self._common.word = word
            self._common.end_probe(total)

        if self._round:
            try:
                self._round.run(vote, LOCK_TIMEOUT_SECONDS)
            except LedgerError as error:  # without the vote the round runs out, and another one begins
                self._complain(error)

    def detach(self) -> None:
        super().detach()
        self._lock = self._round = None


class _Own(Counters):
    """Counts of one process that are not yet added to the commons.

    When a new stay begins, outcomes of the last one are late.
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
    for commons in list(_ALL):
        commons.add(0)
