"""Work that one process of a host does for all of them."""

import atexit
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cb.clocks import spread
from cb.handles import ProcessBound
from cb.log import Log

from .fork import detect_fork, register_fork_reset
from .watchdog import WATCHDOG

if TYPE_CHECKING:
    from cb.ledger.ledger import Ledger

log = Log(__name__)

#: seconds to wait at process exit for the current piece of work
SHUTDOWN_TIMEOUT_SECONDS = 5.0
#: most seconds until failed work is repeated
RETRY_SECONDS = 2.0


class Leader(ProcessBound):
    """A leader-elected task: a thread in one process of the host; another process takes over when that one ends.

    Create one in every process; it may be created before a fork. It is a context manager: `close` resigns.

    Args:
        ledger: shared by the processes that elect a leader.
        role: name of the task in that ledger.
        work: called with an event that is set when it should return. It checks the event after each piece of work that
            must not be interrupted. An exception is logged, and the work is called again.
        shutdown_timeout: seconds to wait for the work when the process ends or the leader is closed.
    """

    def __init__(
        self,
        ledger: "Ledger",
        role: str,
        work: Callable[[threading.Event], object],
        *,
        shutdown_timeout: float = SHUTDOWN_TIMEOUT_SECONDS,
    ) -> None:
        #: name of the task: one process of the host runs it
        self.role = role
        #: shared by the processes that elect a leader
        self.ledger = ledger
        self._work = work
        self._shutdown_timeout = shutdown_timeout
        self._closed = False
        self.reset_after_fork()
        _leaders.add(self)
        register_fork_reset(self)
        WATCHDOG.add(self)

    def __repr__(self) -> str:
        thread = self._thread
        state = "closed" if self._closed else "leading" if thread and thread.is_alive() else "following"
        return f"<Leader {self.role!r} {state}>"

    def reset_after_fork(self) -> None:
        """Start over in a forked child, without the parent's thread and lock."""
        self._lock = threading.RLock()  # a signal handler or a finalizer may call `release`
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._warned = False
        self._header = self.ledger.core.header  # of the ledger in which it was elected

    @property
    def closed(self) -> bool:
        """True once this process has resigned for good."""
        return self._closed

    def tick(self) -> None:
        """Become the leader if there is none. The watchdog calls it a few times a second."""
        detect_fork()
        with self._lock:
            thread, core = self._thread, self.ledger.core
            if thread and thread.is_alive():
                if self._header is not core.header or not core.has(self.role):
                    # The ledger's file could be opened, or the lock file was removed: another process may lead.
                    self._stop.set()
                return
            if self._closed:
                return
            if thread:  # ended from outside, by an exception that another thread set: it may have kept the role
                self._resign_locked()
            if not core.elect(self.role):
                return
            self._header = core.header
            try:
                self._start_locked()
            except (RuntimeError, MemoryError) as failed:  # no thread left, or the interpreter ends: tried again
                self._resign_locked()
                error = failed
            else:
                self._warned = False
                return
            warned, self._warned = self._warned, True
        if not warned:
            log.warning("%s is not done, its thread cannot start: %s", self.role, error)

    def _start_locked(self) -> None:
        self._stop = threading.Event()
        # Stored before it runs: an interruption may come in between, and there must not be two.
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name=f"cb-{self.role}", daemon=True)
        self._thread.start()

    def _resign_locked(self) -> None:
        self._thread = None
        self.ledger.core.resign(self.role)

    def close(self) -> None:
        """Resign for good. Returns when the work has ended, or after `shutdown_timeout`."""
        self.release()
        thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join(self._shutdown_timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def release(self) -> None:
        """Stop the work and resign for good, without waiting for the work to end."""
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
                    stop.wait(spread(RETRY_SECONDS, 0.5, 1))
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._resign_locked()


_leaders: weakref.WeakSet[Leader] = weakref.WeakSet()


def _close_all() -> None:
    leaders = list(_leaders)
    for leader in leaders:
        leader.release()  # all first, so that they end at the same time
    for leader in leaders:
        leader.close()


atexit.register(_close_all)
