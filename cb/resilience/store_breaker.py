"""Going without a store while it is away: it is left alone for a second after each failure, and told of once."""

from collections.abc import Callable
from typing import Generic, TypeVar

from cb.clocks import monotonic_ns
from cb.log import Log

log = Log(__name__)

#: nanoseconds for which a store is not asked again after it has failed
REST = 1_000_000_000
R = TypeVar("R")
D = TypeVar("D")


class StoreBreaker(Generic[D]):
    """Asks a store, and answers `otherwise` while it cannot be used: whatever it raises, a caller gets an answer."""

    def __init__(self, what: str, clock: Callable[[], int] = monotonic_ns) -> None:
        self._what = what
        self._clock = clock
        self._until = clock()
        self._told = False

    def call(self, work: Callable[[], R], otherwise: D) -> R | D:
        """Return work(), or `otherwise` if that fails or has failed within the last second."""
        now = self._clock()
        if now < self._until <= now + REST:  # beyond that, the clock was set back
            return otherwise
        looks = self._told
        if looks:
            self._until = now + REST  # one looks whether it is back, and no other waits with it
        try:
            answer = work()
        except Exception as error:  # noqa: BLE001 - a store of somebody else, or one that is damaged, raises anything
            self._until = self._clock() + REST
            if not self._told:
                self._told = True
                log.warning("%s: goes on without %s", self._what, str(error) or repr(error))
            return otherwise
        if looks:  # who asked before the store failed, and got an answer, has nothing to tell
            self._told = False
            self._until = now
            log.warning("%s: is whole again", self._what)
        return answer
