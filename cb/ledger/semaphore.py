"""A semaphore across processes: permits for concurrent calls, each held by one call of the host at a time."""

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from cb.background.fork import FORK_MARK, detect_fork
from cb.log import Log

log = Log(__name__)

#: permits that are tried without letting the other tasks of a loop run
TRIED_AT_ONCE = 50


class Permit:
    """The right to be one of the concurrent calls, among the threads of a process."""

    __slots__ = ("__weakref__", "fault", "number", "semaphore")

    def __init__(self, number: int) -> None:
        self.number = number
        #: reason why it is not shared with other processes
        self.fault: str | None = None
        #: the semaphore that issued it; None once the process has forked, or the breakers have moved to another record
        self.semaphore: Semaphore | None = None

    def __repr__(self) -> str:
        return f"<Permit {self.number}>"

    def lock(self) -> bool:
        """Reserve it for this process. Return False if another process holds it."""
        return True

    def unlock(self) -> None:
        """Release it for other processes."""

    def verify(self) -> None:
        """Check that the lock is the one that other processes use."""

    def reset_after_fork(self) -> None:
        """Drop it in a forked child: the parent holds it."""


class Waiter(Protocol):
    """The part of a queue, or of an event loop's `Wakeup`, that wakes the call that waits."""

    def put(self, item: None, /) -> object: ...


class Semaphore:
    """The permits of one dependency in one process.

    A permit comes back when its object is dropped, and so does that of a call that was cut off between any two steps.

    Args:
        make: creates the permit with a number.
    """

    def __init__(self, make: Callable[[int], Permit]) -> None:
        self._make = make
        self._known: weakref.WeakValueDictionary[int, Permit] = weakref.WeakValueDictionary()
        self._warned = False
        self.reset_after_fork()

    def __repr__(self) -> str:
        taken, waiting = len(self._known) - len(self._idle), len(self._queue)
        return f"<Semaphore, permits taken: {taken}, calls waiting: {waiting}>"

    def reset_after_fork(self) -> None:
        """Start over in a forked child, which holds no permit."""
        for permit in list(self._known.values()):
            permit.semaphore = None
            permit.reset_after_fork()
        self._known = weakref.WeakValueDictionary()
        self._idle: list[Permit] = []  # those that no call of this process holds
        self._queue: deque[weakref.ref[Waiter]] = deque()
        self._lock = threading.RLock()  # a signal handler may call while its thread takes one

    def verify(self) -> None:
        """Check that the permits are those that other processes share. Call it a few times a second."""
        for permit in list(self._known.values()):
            permit.verify()

    def take(self, limit: int, tried: set[int] | None = None) -> Permit | None:
        """Return a permit with a number below the limit, None if all are taken. Does not wait.

        With the set of the numbers that were `tried` before, a few others are, and added to it: each costs some
        microseconds, which is too long for thousands at once on an event loop.
        """
        permit = self._take(limit, tried)
        if permit and permit.fault and not self._warned:
            self._warned = True
            log.warning("concurrent calls are not limited across processes: %s", permit.fault)
        return permit

    def _take(self, limit: int, tried: set[int] | None) -> Permit | None:
        if not FORK_MARK[0]:
            detect_fork()
        busy, last = [], 0 if tried is None else len(tried) + TRIED_AT_ONCE
        with self._lock:
            try:
                # Popped before it is tried: a signal handler must not try the same one. The one that came back last is
                # the most likely to be still free.
                while self._idle:
                    permit = self._idle.pop()
                    if permit.number < limit and (tried is None or permit.number not in tried) and permit.lock():
                        return permit
                    busy.append(permit)
                    if tried is not None and _enough(tried, permit, last):
                        return None
                for number in range(limit):
                    if number not in self._known:
                        permit = self._known[number] = self._make(number)
                        permit.semaphore = self
                        if permit.lock():
                            return permit
                        busy.append(permit)
                        if tried is not None and _enough(tried, permit, last):
                            return None
                return None
            finally:
                self._idle[:0] = busy

    def give_back(self, permit: Permit) -> None:
        """Release a permit for the next call."""
        if not FORK_MARK[0]:
            detect_fork()
        if permit.semaphore is not self:
            return
        permit.unlock()
        self._idle.append(permit)
        self._wake_first()

    @property
    def has_waiters(self) -> bool:
        """True if calls of this process are waiting."""
        return self._first() is not None

    @contextmanager
    def wait_in_queue(self) -> Iterator[Callable[[float], bool]]:
        """Join the queue: first come, first served; each process has its own.

        Yields a function that waits up to that many seconds, and returns True if this call is the first in the queue.
        """
        wakeup: queue.SimpleQueue[None] = queue.SimpleQueue()  # that of gevent, if it has replaced the other

        def wait(seconds: float) -> bool:
            with suppress(queue.Empty):
                wakeup.get(timeout=seconds)
            return self.is_first(wakeup)

        with self.queued(wakeup):
            yield wait

    def is_first(self, waiter: Waiter) -> bool:
        """Return True if a call of the queue is the next one to get a permit."""
        return self._first() is waiter

    @contextmanager
    def queued(self, waiter: Waiter) -> Iterator[None]:
        """Join the queue as `waiter`, which is woken each time that its call may have become the first."""
        entry = weakref.ref(waiter)  # gone with its call, should that be cut off before it leaves the queue
        self._queue.append(entry)
        try:
            yield
        finally:
            with suppress(ValueError):  # in a forked child, which has another queue
                self._queue.remove(entry)
            self._wake_first()

    def _wake_first(self) -> None:
        while self._queue and (wakeup := self._first()) is not None:
            wakeup.put(None)
            if not _gone(wakeup):
                return

    def _first(self) -> Waiter | None:
        """Return the wakeup of the call that is first in the queue."""
        while self._queue:
            with suppress(IndexError, ValueError):  # another call has just left the queue
                entry = self._queue[0]
                if (wakeup := entry()) is not None and not _gone(wakeup):
                    return wakeup
                self._queue.remove(entry)
        return None


def _enough(tried: set[int], permit: Permit, last: int) -> bool:
    """Note that a permit was tried. Return True if those are enough for one look."""
    tried.add(permit.number)
    return len(tried) >= last


def _gone(waiter: Waiter) -> bool:
    """Return True for a task whose event loop has ended, so that it will not take its turn."""
    return getattr(waiter, "gone", False)
