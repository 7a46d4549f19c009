"""Going without a store while it is away: it is left alone for a second after each failure, and told of once."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from cb.clocks import monotonic_ns

log = logging.getLogger(__name__)

#: nanoseconds for which a store is not asked again after it has failed
REST = 1_000_000_000
R = TypeVar("R")
D = TypeVar("D")


class Outage(Generic[D]):
    """Asks a store, and answers `otherwise` while it cannot be used. `errors` are those that say so."""

    def __init__(self, what: str, errors: tuple[type[Exception], ...], clock: Callable[[], int] = monotonic_ns) -> None:
        self._what = what
        self._errors = errors
        self._clock = clock
        self._until = clock()
        self._told = False

    def ask(self, work: Callable[[], R], otherwise: D) -> R | D:
        """Return work(), or `otherwise` if that fails or has failed within the last second."""
        now = self._clock()
        if now < self._until:
            return otherwise
        looks = self._told
        if looks:
            self._until = now + REST  # one looks whether it is back, and no other waits with it
        try:
            answer = work()
        except self._errors as error:
            self._until = self._clock() + REST
            if not self._told:
                self._told = True
                log.warning("%s: goes on without %s", self._what, error)
            return otherwise
        if looks:  # who asked before the store failed, and got an answer, has nothing to tell
            self._told = False
            self._until = now
            log.warning("%s: is whole again", self._what)
        return answer
