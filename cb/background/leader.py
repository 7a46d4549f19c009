"""Work that one process of a host does for all of them."""

import atexit
import random
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from cb.handles import ProcessBound
from cb.log import Log

from .fork import detect_fork, register_fork_reset
from .watchdog import WATCHDOG

if TYPE_CHECKING:
    from cb.ledger.ledger import Ledger

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

log = Log(__name__)

#: seconds that a process which ends waits for the piece of work at hand
SHUTDOWN_TIMEOUT_SECONDS = 5.0
#: seconds until work that failed is tried again, at the most
RETRY_SECONDS = 2.0


class Leader(ProcessBound):
    """Has `work` done in a thread of one process of the host; another takes over when that process ends.

    Make one in every process; it may be made before a fork. The processes are those that share the `ledger`, and `role`
    is the duty's name there. `work` is given an event that is set when it should return, which it looks at after each
    piece that must not be broken off; what it raises is logged, and it is begun again. A process that ends as it should
    waits for it, for at most `patience` seconds.
    """

    def __init__(
        self,
        ledger: "Ledger",
        role: str,
        work: Callable[[threading.Event], object],
        *,
        patience: float = SHUTDOWN_TIMEOUT_SECONDS,
    ) -> None:
        self.role = role
        #: of the processes that share the duty
        self.ledger = ledger
        self._work = work
        self._patience = patience
        self._closed = False
        self.reset_after_fork()
        _duties.add(self)
        register_fork_reset(self)
        WATCHDOG.add(self)

    def reset_after_fork(self) -> None:
        """Start over in a forked child, without the parent's thread and lock."""
        self._lock = threading.RLock()  # a signal handler or a finalizer may release it
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._complained = False
        self._header = self.ledger.core.header  # that of the election

    @property
    def closed(self) -> bool:
        """True once this process has given up the duty for good."""
        return self._closed

    def tick(self) -> None:
        """Take the duty, if nobody has it. The watch of this process asks a few times a second."""
        detect_fork()
        with self._lock:
            thread = self._thread
            if thread and thread.is_alive():
                if self._header is not self.ledger.core.header or not self.ledger.core.has(self.role):
                    # The ledger's file could be opened, or the lock file was taken away: another process may have it.
                    self._stop.set()
                return
            if self._closed:
                return
            if thread:  # ended from outside, by an exception that another thread sets: it may have kept the role
                self._leave_locked()
            if not self.ledger.core.elect(self.role):
                return
            self._header = self.ledger.core.header
            try:
                self._begin_locked()
            except (RuntimeError, MemoryError) as failed:  # no thread left, or the interpreter ends: tried again
                self._leave_locked()
                error = failed
            else:
                self._complained = False
                return
            complained, self._complained = self._complained, True
        if not complained:
            log.warning("nobody does the work of %s: %s", self.role, error)

    def _begin_locked(self) -> None:
        self._stop = threading.Event()
        # Known before it runs: an interruption may come in between, and there must not be two.
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=f"cb-{self.role}", daemon=True)
        self._thread.start()

    def _leave_locked(self) -> None:
        self._thread = None
        self.ledger.core.resign(self.role)

    def close(self) -> None:
        """Leave the duty to another process. Returns when the work has ended, or after `patience`."""
        self.release()
        thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join(self._patience)

    def release(self) -> None:
        """Tell the work to end, and take the duty no more."""
        detect_fork()
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
                    stop.wait(RETRY_SECONDS * _chance.uniform(0.5, 1))  # spreads the hosts
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._leave_locked()


_duties: weakref.WeakSet[Leader] = weakref.WeakSet()


def _close_all() -> None:
    duties = list(_duties)
    for duty in duties:
        duty.release()  # all at once, that they end side by side
    for duty in duties:
        duty.close()


atexit.register(_close_all)
