"""Looks after the breakers of this process in the background, for what no call reports.

A call that hangs, a worker that was killed and an operator's hold that expires all change what a circuit should do,
while perhaps nobody calls. One daemon thread of each process looks, a few times a second, for all its ledgers.
"""

import threading
import time
import weakref
from typing import Protocol

from cb.clocks import perf_counter
from cb.log import Log

from .fork import detect_fork, register_fork_reset

log = Log(__name__)

#: seconds between two looks
TICK = 0.25
#: the share of a processor that looking may take: with very many breakers it happens less often
SHARE = 0.02


class Tended(Protocol):
    """What can be looked after."""

    def tick(self) -> None: ...


class Watchdog:
    """The thread, which must not be started before a fork: `start` is called by the first call of a process.

    It may be ended from outside, by an exception that another thread sets. It then starts its successor; should that
    fail, whatever calls `start` next does: the first call in a slice of a window, a snapshot, a thread of a Duty.
    """

    def __init__(self) -> None:
        self._tended: weakref.WeakSet[Tended] = weakref.WeakSet()
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget the parent's thread, in a forked child."""
        self._thread: threading.Thread | None = None
        self._complained = False
        self._lock = threading.RLock()  # a signal handler may look at a breaker while its thread starts the watch

    @property
    def running(self) -> bool:
        """True if the thread is alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def add(self, tended: Tended) -> None:
        """Look after something for as long as it lives."""
        detect_fork()
        with self._lock:
            self._tended.add(tended)

    def start(self) -> None:
        """Begin to look, if nobody does."""
        detect_fork()
        if self.running:
            return
        try:
            self._begin()
        except (RuntimeError, MemoryError) as error:  # no thread left, or the interpreter ends: the next tries again
            # Before the line: its handler may call, and come here.
            complained, self._complained = self._complained, True
            if not complained:
                log.warning("nobody looks after calls that hang: %s", error)
        else:
            self._complained = False

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="cb-watch", daemon=True)
        with self._lock:
            if self.running:
                return
            self._thread = thread
        # Without the lock, because it waits. Of two that are begun at once, the one that is not known ends.
        thread.start()

    def _run(self) -> None:
        try:
            self._look_on()
        finally:
            if self._thread is threading.current_thread():  # else another one has taken its place
                self._succeed()

    def _look_on(self) -> None:
        wait = TICK
        while self._thread is threading.current_thread():
            time.sleep(wait)
            begin = perf_counter()
            with self._lock:
                all_tended = list(self._tended)
            while all_tended:
                _look_after(all_tended.pop())  # nothing is kept from one look to the next: it may have been dropped
            wait = max(TICK, (perf_counter() - begin) / SHARE)

    def _succeed(self) -> None:
        """Start the thread that takes the place of this one, which ends."""
        for _ in range(3):
            try:
                self._thread = None
                self._begin()
                return
            except BaseException:  # noqa: BLE001, S112 - what ends this thread may come again; else the next call begins
                continue


def _look_after(tended: Tended) -> None:
    try:
        tended.tick()
    except BaseException:
        log.exception("looking after %r failed", tended)


WATCHDOG = Watchdog()
register_fork_reset(WATCHDOG)
