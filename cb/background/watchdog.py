"""Supervision of the breakers of this process in the background, for events that no call reports.

A call that hangs, a worker that was killed and an operator's command that expires all change the state that a circuit
should have, perhaps while no call comes. One daemon thread of each process checks a few times a second, for all its
ledgers.
"""

import queue
import threading
import weakref
from typing import Protocol

from cb.clocks import perf_counter, thread_time
from cb.log import Log

from .fork import FORK_MARK, detect_fork, register_fork_reset

log = Log(__name__)

#: seconds between two ticks
TICK = 0.25
#: share of a processor that ticks may take: with very many breakers they come less often
SHARE = 0.02


class Watched(Protocol):
    """An object that the watchdog calls."""

    def tick(self) -> None: ...


class Watchdog:
    """The thread. It must not be started before a fork: `start` is called by the first call of a process.

    The thread may be ended from outside, by an exception that another thread sets. It then starts its successor; if
    that fails, the next `start` does: the first call in a slice of a window, a snapshot, a thread of a Leader.
    """

    def __init__(self) -> None:
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        self.reset_after_fork()

    def __repr__(self) -> str:
        return f"<Watchdog, objects: {len(self._watched)}, {'running' if self.running else 'stopped'}>"

    def reset_after_fork(self) -> None:
        """Drop the parent's thread, in a forked child."""
        self._thread: threading.Thread | None = None
        self._warned = False
        self._lock = threading.RLock()  # a signal handler may read a breaker while its thread starts the watchdog
        self._urgent: queue.SimpleQueue[weakref.ref[Watched]] | None = None

    @property
    def running(self) -> bool:
        """True if the thread is alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def add(self, watched: Watched) -> None:
        """Call the object's `tick` a few times a second, as long as it exists."""
        detect_fork()
        with self._lock:
            self._watched.add(watched)

    def hand_over(self, watched: Watched) -> None:
        """Call the object's `tick` at once, in the thread: its caller must not wait for a lock."""
        self.start()
        if (urgent := self._urgent) is not None:
            urgent.put(weakref.ref(watched))

    def start(self) -> None:
        """Start the thread, unless it is running."""
        if not FORK_MARK[0]:
            detect_fork()
        if self.running:
            return
        try:
            self._start_thread()
        except (RuntimeError, MemoryError) as error:  # no thread left, or the interpreter ends: the next call tries
            # Before the line: its handler may call a breaker, and come here.
            warned, self._warned = self._warned, True
            if not warned:
                log.warning("hanging calls are not detected, the watchdog cannot start: %s", error)
        else:
            self._warned = False

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="cb-watchdog", daemon=True)
        with self._lock:
            if self.running:
                return
            self._thread = thread
            self._urgent = queue.SimpleQueue()  # now, and not at import: gevent may have replaced the class since
        # Without the lock, because it waits. Of two that are started at once, the one that is not stored ends.
        thread.start()

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            if self._thread is threading.current_thread():  # otherwise another one has taken its place
                self._start_successor()

    def _loop(self) -> None:
        due = perf_counter() + TICK
        while self._thread is threading.current_thread():
            self._wait(due)
            begin = perf_counter()
            if begin < due:
                continue
            used = thread_time()
            with self._lock:
                all_watched = list(self._watched)
            while all_watched:
                _tick(all_watched.pop())  # no reference is kept between two ticks: the object may have been dropped
            end, used = perf_counter(), thread_time() - used
            # A tick that waits for a lock uses no processor. With greenlets, the thread also runs all others.
            due = end + max(TICK, min(used, end - begin) / SHARE)

    def _wait(self, due: float) -> None:
        """Wait until then, or until objects are handed over: tick those, each once."""
        urgent, handed = self._urgent, set[weakref.ref[Watched]]()
        if urgent is None:
            return
        try:
            handed.add(urgent.get(timeout=max(due - perf_counter(), 0)))
            while True:
                handed.add(urgent.get_nowait())
        except queue.Empty:
            pass
        for each in handed:
            if (watched := each()) is not None:
                _tick(watched)

    def _start_successor(self) -> None:
        """Start the thread that takes the place of this one, which ends."""
        for _ in range(3):
            try:
                self._thread = None
                self._start_thread()
                return
            except BaseException:  # noqa: BLE001, S112 - the exception that ends this thread may come again
                continue


def _tick(watched: Watched) -> None:
    try:
        watched.tick()
    except BaseException:
        log.exception("the tick of %r failed", watched)


WATCHDOG = Watchdog()
register_fork_reset(WATCHDOG)
