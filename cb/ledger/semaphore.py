"""Who may call at once: slots, each taken by one call of the host at a time."""

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cb.background.fork import FORK_MARK, detect_fork
from cb.log import Log

log = Log(__name__)


class Permit:
    """The right to be one of the calls in flight, among the threads of a process."""

    __slots__ = ("__weakref__", "complaint", "home", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        #: why it is not shared with other processes as it should be
        self.complaint: str | None = None
        #: the slots that it is one of; None once the process has forked, or the breakers have gone to another row
        self.home: Semaphore | None = None

    def lock(self) -> bool:
        """Take it from the other processes. Return False if one of them has it."""
        return True

    def unlock(self) -> None:
        """Leave it to them."""

    def keep(self) -> None:
        """Look whether what is locked is what other processes lock."""

    def reset_after_fork(self) -> None:
        """Have no part in it any more, in a forked child."""


class Semaphore:
    """The slots of one dependency, as one process sees them.

    A slot that was taken comes free when its object goes: so does that of a call which was cut off between any two
    steps.
    """

    def __init__(self, make: Callable[[int], Permit]) -> None:
        self._make = make
        self._known: weakref.WeakValueDictionary[int, Permit] = weakref.WeakValueDictionary()
        self._complained = False
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start over in a forked child, which has taken nothing."""
        for slot in list(self._known.values()):
            slot.home = None
            slot.reset_after_fork()
        self._known = weakref.WeakValueDictionary()
        self._idle: list[Permit] = []  # those that no call of this process has
        self._line: deque[weakref.ref[queue.SimpleQueue[None]]] = deque()
        self._lock = threading.RLock()  # a signal handler may call while its thread takes one

    def keep(self) -> None:
        """Look whether the slots are those that other processes share. Call it a few times a second."""
        for slot in list(self._known.values()):
            slot.keep()

    def take(self, limit: int) -> Permit | None:
        """Return a slot with a number below the limit, None if all are taken."""
        slot = self._take(limit)
        if slot and slot.complaint and not self._complained:
            self._complained = True
            log.warning("calls at once are not limited between processes: %s", slot.complaint)
        return slot

    def _take(self, limit: int) -> Permit | None:
        if not FORK_MARK[0]:
            detect_fork()
        busy = []
        with self._lock:
            try:
                # Popped before it is tried: a signal handler must not try the same one. The one that came back last is
                # the most likely to be free still.
                while self._idle:
                    slot = self._idle.pop()
                    if slot.number < limit and slot.lock():
                        return slot
                    busy.append(slot)
                for number in range(limit):
                    if number not in self._known:
                        slot = self._known[number] = self._make(number)
                        slot.home = self
                        if slot.lock():
                            return slot
                        busy.append(slot)
                return None
            finally:
                self._idle[:0] = busy

    def give_back(self, slot: Permit) -> None:
        """Leave a slot to the next call."""
        if not FORK_MARK[0]:
            detect_fork()
        if slot.home is not self:
            return
        slot.unlock()
        self._idle.append(slot)
        self._call_next()

    @property
    def wanted(self) -> bool:
        """Whether calls of this process wait already."""
        return self._first() is not None

    @contextmanager
    def line(self) -> Iterator[Callable[[float], bool]]:
        """Wait in line, first come, first served; the line of each process is its own.

        Yields what waits for so many seconds, or shorter, and returns whether this call is the first in line.
        """
        bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # that of gevent, where it has replaced the other
        place = weakref.ref(bell)  # gone with its call, should that be cut off before it leaves the line

        def wait(seconds: float) -> bool:
            with suppress(queue.Empty):
                bell.get(timeout=seconds)
            return self._first() is bell

        self._line.append(place)
        try:
            yield wait
        finally:
            with suppress(ValueError):  # in a forked child, where the line is another
                self._line.remove(place)
            self._call_next()

    def _call_next(self) -> None:
        if self._line and (bell := self._first()) is not None:
            bell.put(None)

    def _first(self) -> queue.SimpleQueue[None] | None:
        """Return the bell of the call that is first in line."""
        while self._line:
            with suppress(IndexError, ValueError):  # who waited has just left
                place = self._line[0]
                if (bell := place()) is not None:
                    return bell
                self._line.remove(place)
        return None
