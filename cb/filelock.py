"""Locks between processes that the kernel frees when their holder dies. POSIX only."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from typing import TypeVar

from .clocks import monotonic
from .errors import LedgerBusyError
from .slots import Slot

R = TypeVar("R")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def claim(path: str) -> int | None:
    """Lock a file without waiting. Return its descriptor, which holds the lock until it is closed, or None.

    flock, not lockf: it belongs to the descriptor, so closing another descriptor of the file loses nothing, and two
    ledgers of one process exclude each other.
    """
    fd = os.open(path, _FLAGS, 0o600)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


class FileLock:
    """A lock between all threads of all processes that name the same file.

    The descriptor is opened by the process that uses it: one that was inherited through fork would share the
    parent's lock.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._running = False
        self._mutex = threading.RLock()

    def run(self, work: Callable[[], R], timeout: float) -> R:
        """Return work(), run under the lock. Raises LedgerBusyError if it cannot be had within `timeout` seconds.

        It runs a function, and is not acquired and released, because an exception may come between any two calls of
        Python (a signal handler's, Ctrl-C): only `with` on a lock written in C leaves no gap.
        """
        end, wait = monotonic() + timeout, 0.00005
        while True:
            with self._mutex:
                if self._running:  # this is a signal handler, or a finalizer, of the very thread that holds the lock
                    raise LedgerBusyError(self._path, "is held by the code that was interrupted")
                fd = self._open()
                try:
                    self._running = True
                    if _locks(fd):
                        return work()
                finally:
                    self._running = False
                    flock(fd, LOCK_UN)  # does nothing where the lock was not had
            # Polled, because a blocking flock has no timeout and its holder may be stopped for good; and without the
            # mutex, because other threads may be in more of a hurry.
            if monotonic() >= end:
                raise LedgerBusyError(self._path, "is locked by a process that does not go on")
            time.sleep(wait)
            wait = min(wait * 2, 0.002)

    def _open(self) -> int:
        try:
            if self._fd is None:
                self._fd = os.open(self._path, _FLAGS, 0o600)
            return self._fd
        except OSError as error:
            raise LedgerBusyError(self._path, f"cannot be opened ({error.strerror})") from error

    def renew(self) -> None:
        """Forget the parent's lock, in a forked child. Closing does not unlock: the parent's descriptor is open."""
        self._mutex = threading.RLock()
        self._running = False
        if self._fd is not None:
            with suppress(OSError):  # a daemon may have closed all that it inherited
                os.close(self._fd)
            self._fd = None


def _locks(fd: int) -> bool:
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


class FileSlot(Slot):
    """A slot between all processes that name the same file. The kernel frees it when its process dies."""

    _fd: int | None = None  # of the class: an interruption may come before __init__ has done anything

    def __init__(self, number: int, path: str) -> None:
        super().__init__(number)
        self._path = path

    def lock(self) -> bool:
        try:
            if self._fd is None:
                self._fd = os.open(self._path, _FLAGS, 0o600)
            return _locks(self._fd)
        except OSError as error:
            # No call may fail for that: it is then a slot of this process only.
            self._close()
            self.complaint = f"{self._path}: {error.strerror}"
            return True

    def unlock(self) -> None:
        if self._fd is not None:
            flock(self._fd, LOCK_UN)

    def renew(self) -> None:
        super().renew()
        self._close()  # not unlocked: the lock is the parent's

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # a daemon may have closed all that it inherited
                os.close(fd)

    __del__ = _close
