"""Looks after the breakers of this process in the background, for what no call reports.

A call that hangs, a worker that was killed and an operator's hold that expires all change what a circuit should do,
while perhaps nobody calls. One daemon thread of each process looks, a few times a second, for all its ledgers.
"""

import logging
import os
import threading
import time
import weakref
from typing import Protocol

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
        self.tended: weakref.WeakSet[Tended] = weakref.WeakSet()
        self.renew()

    def renew(self) -> None:
        self.running = False
        self._lock = threading.Lock()

    def start(self) -> None:
        with self._lock:
            if not self.running:
                self.running = True
                threading.Thread(target=self._run, name="cb-watch", daemon=True).start()

    def _run(self) -> None:
        wait = TICK
        while True:
            time.sleep(wait)
            begin = time.perf_counter()
            for tended in list(self.tended):
                try:
                    tended.tend()
                except Exception:
                    log.exception("looking after %r failed", tended)
            wait = max(TICK, (time.perf_counter() - begin) / SHARE)


WATCH = _Watch()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WATCH.renew)
