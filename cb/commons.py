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
#: seconds after which it is held to be had reliably
_CALM = 10.0


class Commons(Spill):
    """The commons of one row, as one process sees them."""

    __slots__ = ("_failed_at", "_lock", "_note", "_round", "own")

    def __init__(
        self, head: memoryview, lock: Lock, round_lock: Lock, note: Callable[[LedgerError | None], object]
    ) -> None:
        start = at.COMMONS + at.TALLY
        super().__init__(Tally(head[start : start + at.TALLY_CELLS], head))
        self._lock: Lock | None = lock
        self._round: Lock | None = round_lock
        self._note = note
        self._failed_at: float | None = None
        #: laid out as the commons are: what could be counted for this process alone
        self.own = nowhere(at.COMMONS_CELLS)

    def run(self, work: Callable[[Tally], object]) -> None:
        """Call work(tally) as the only process that writes to it; with a tally of this process if that cannot be."""
        if self._lock and self._since_failure() >= _AGAIN:
            try:
                self._lock.run(lambda: work(self.tally), PATIENCE)
            except LedgerError as error:
                self._failed_at = time.monotonic()
                self._note(error)
            else:
                if self._failed_at is not None and self._since_failure() >= _CALM:
                    self._failed_at = None
                    self._note(None)
                return
        with self.lock:
            work(Tally(self.own[at.TALLY :], self.tally.head))

    def _since_failure(self) -> float:
        return abs(time.monotonic() - self._failed_at) if self._failed_at is not None else _CALM

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
                self._failed_at = time.monotonic()
                self._note(error)

    def detach(self) -> None:
        super().detach()
        self._lock = self._round = None


def _admit(tally: Tally, word: int) -> None:
    tally.attend(word)
    tally.cells[at.ADMITTED] = word
