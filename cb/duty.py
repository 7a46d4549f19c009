"""Work that one process of a host does for all of them."""

import atexit
import logging
import random
import threading
import weakref
from collections.abc import Callable

from .forks import notice, renew_in_children
from .ledger import Ledger
from .watch import WATCH

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

log = logging.getLogger(__name__)

#: seconds that a process which ends waits for the piece of work at hand
PATIENCE = 5.0
#: seconds until work that failed is tried again, at the most
_AGAIN = 2.0


class Duty:
    """Has `work` done in a thread of one process of the host; another takes over when that process ends.

    Make one in every process; it may be made before a fork. The processes are those that share the `ledger`, and `role`
    is the duty's name there. `work` is given an event that is set when it should return, which it looks at after each
    piece that must not be broken off; what it raises is logged, and it is begun again. A process that ends as it should
    waits for it, for at most `patience` seconds.
    """

    def __init__(
        self, ledger: Ledger, role: str, work: Callable[[threading.Event], object], *, patience: float = PATIENCE
    ) -> None:
        self.role = role
        self._ledger = ledger
        self._work = work
        self._patience = patience
        self._closed = False
        self.renew()
        _duties.add(self)
        renew_in_children(self)
        WATCH.add(self)

    def renew(self) -> None:
        """Start over in a forked child, without the parent's thread and lock."""
        self._lock = threading.RLock()  # a signal handler or a finalizer may release it
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def tend(self) -> None:
        """Take the duty, if nobody has it. The watch of this process asks a few times a second."""
        notice()
        with self._lock:
            if self._thread and not self._ledger.has(self.role):
                self._stop.set()  # its lock file was taken away, and another process may have it
            if self._closed or (self._thread and self._thread.is_alive()) or not self._ledger.elect(self.role):
                return
            self._stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(self._stop,), name=f"cb-{self.role}", daemon=True)
            try:
                thread.start()
            except RuntimeError as failed:  # no thread left, or the interpreter ends: somebody tries again
                self._ledger.resign(self.role)
                error = failed
            else:
                self._thread = thread
                return
        log.warning("nobody does the work of %s: %s", self.role, error)

    def close(self) -> None:
        """Leave the duty to another process. Returns when the work has ended, or after `patience`."""
        self.release()
        thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join(self._patience)

    def release(self) -> None:
        """Tell the work to end, and take the duty no more."""
        notice()
        with self._lock:
            self._closed = True
            self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    self._work(stop)
                except Exception:
                    log.exception("%s failed", self.role)
                    stop.wait(_AGAIN * _chance.uniform(0.5, 1))  # spreads the hosts
        finally:
            self._ledger.resign(self.role)


_duties: weakref.WeakSet[Duty] = weakref.WeakSet()


def _close_all() -> None:
    duties = list(_duties)
    for duty in duties:
        duty.release()  # all at once, that they end side by side
    for duty in duties:
        duty.close()


atexit.register(_close_all)
