"""Looks after the breakers of this process in the background, for what no call reports.

A call that hangs, a worker that was killed and an operator's hold that expires all change what a circuit should do,
while perhaps nobody calls. One daemon thread of each process looks, a few times a second, for all its ledgers.
"""

import logging
import threading
import time
import weakref
from typing import Protocol

from .forks import notice, renew_in_children

log = logging.getLogger(__name__)

#: seconds between two looks
TICK = 0.25
#: the share of a processor that looking may take: with very many breakers it happens less often
SHARE = 0.02


class Tended(Protocol):
    """What can be looked after."""

    def tend(self) -> None: ...


class _Watch:
    """The thread, which must not be started before a fork: `start` is called by the first call of a process."""

    def __init__(self) -> None:
        self._tended: weakref.WeakSet[Tended] = weakref.WeakSet()
        self.renew()

    def renew(self) -> None:
        """Forget the parent's thread, in a forked child."""
        self.running = False
        self._lock = threading.RLock()  # a signal handler may look at a breaker while its thread starts the watch

    def add(self, tended: Tended) -> None:
        """Look after something for as long as it lives."""
        notice()
        with self._lock:
            self._tended.add(tended)

    def start(self) -> None:
        """Begin to look, if nobody does."""
        notice()
        if self.running:
            return
        with self._lock:
            if not self.running:
                self.running = True
                try:
                    threading.Thread(target=self._run, name="cb-watch", daemon=True).start()
                except RuntimeError as error:  # no thread left, or the interpreter ends: the next call tries again
                    self.running = False
                    log.warning("nobody looks after calls that hang: %s", error)

    def _run(self) -> None:
        wait = TICK
        while True:
            time.sleep(wait)
            begin = time.perf_counter()
            with self._lock:
                all_tended = list(self._tended)
            while all_tended:
                _look_after(all_tended.pop())  # nothing is kept from one look to the next: it may have been dropped
            wait = max(TICK, (time.perf_counter() - begin) / SHARE)


def _look_after(tended: Tended) -> None:
    try:
        tended.tend()
    except BaseException:
        log.exception("looking after %r failed", tended)


WATCH = _Watch()
renew_in_children(WATCH)
