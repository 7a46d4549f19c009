"""The tally that processes without a block share: in the head of a row, and so with memory wherever there is a row.

A call that counts here takes a lock of the host, for some microseconds, when it begins and when it ends. That it runs
is not seen. Where even that lock cannot be had, the calls are counted for this process alone: then its evaluations see
them, and no others.
"""

import time
from collections.abc import Callable

from . import layout as at
from .errors import LedgerError
from .layout import State, generation_of, state_of
from .storage import Lock
from .tally import Spill, Tally, nowhere

#: seconds that a call waits for the other processes, at its begin and at its end
PATIENCE = 0.02
#: seconds in which a lock that could not be had is not tried again
_AGAIN = 1.0


class Commons(Spill):
    """The commons of one row, as one process sees them."""

    __slots__ = ("_busy_until", "_failed", "_lock", "_round", "own")

    def __init__(self, head: memoryview, lock: Lock, round_lock: Lock, failed: Callable[[LedgerError], object]) -> None:
        start = at.COMMONS + at.TALLY
        super().__init__(Tally(head[start : start + at.TALLY_CELLS], head))
        self._lock: Lock | None = lock
        self._round: Lock | None = round_lock
        self._failed = failed
        self._busy_until = 0.0
        #: laid out as the commons are: what could be counted for this process alone
        self.own = nowhere(at.COMMONS_CELLS)

    def run(self, work: Callable[[Tally], object]) -> None:
        """Call work(tally) as the only process that writes to it; with a tally of this process if that cannot be."""
        lock = self._lock
        if lock and time.monotonic() >= self._busy_until:
            try:
                lock.run(lambda: work(self.tally), PATIENCE)
                return
            except LedgerError as error:
                self._busy_until = time.monotonic() + _AGAIN
                self._failed(error)
        with self.lock:
            work(Tally(self.own[at.TALLY :], self.tally.head))

    def admit(self, word: int, now: int) -> None:  # noqa: ARG002 - that it runs is not noted
        if state_of(word) is State.HALF_OPEN:  # the caller holds the lock of the round
            self.tally.cells[at.ADMITTED] = word
            self.tally.take(generation_of(word))
        else:
            self.run(lambda tally: _admit(tally, word))

    def probed(self, word: int, total: int) -> None:
        def vote() -> None:
            self.tally.word = word
            self.tally.probed(total)

        if self._round:
            try:
                self._round.run(vote, PATIENCE)
            except LedgerError as error:  # without the vote the round runs out, and another one begins
                self._failed(error)

    def detach(self) -> None:
        super().detach()
        self._lock = self._round = None


def _admit(tally: Tally, word: int) -> None:
    tally.attend(word)
    tally.cells[at.ADMITTED] = word
