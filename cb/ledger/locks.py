"""Locks between processes that the kernel frees when their holder dies. POSIX only."""

import errno
import os
import threading
import time
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from typing import TypeVar

from cb.background.fork import FORK_MARK, detect_fork
from cb.clocks import monotonic
from cb.errors import LedgerBusyError

from .semaphore import Permit

R = TypeVar("R")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
#: how often a lock file is opened anew that is removed again and again
_TRIES = 5


def identity(found: os.stat_result) -> tuple[int, int]:
    """Return the device and the inode of a file."""
    return found.st_dev, found.st_ino


class LockFile:
    """An open lock file.

    A cleaner may remove it, and a daemon may close its descriptor, whose number is then another file's: no descriptor
    is used or closed before `mine` has said that it is still this file's, and a lock holds only while the file is
    `current`, because others lock the one that they find at the path.
    """

    # Of the class: an interruption may come before __init__ has done anything.
    fd: int | None = None
    _identity = (0, 0)

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self.fd = os.open(path, _FLAGS, 0o600) if fd is None else fd
        self._identity = identity(os.fstat(self.fd))

    def fileno(self) -> int:
        """Return the descriptor. Raises OSError if it was closed."""
        if self.fd is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.fd

    @property
    def mine(self) -> bool:
        """True if the descriptor still refers to this file."""
        try:
            return self.fd is not None and identity(os.fstat(self.fd)) == self._identity
        except OSError:
            return False

    @property
    def current(self) -> bool:
        """True if the file is the one at its path, or if its directory is gone: those that have it share it then."""
        try:
            return identity(os.stat(self.path, follow_symlinks=False)) == self._identity
        except OSError:
            return not os.path.isdir(os.path.dirname(self.path))

    def lock(self) -> bool:
        """Lock it without waiting. Return False if somebody else has. Raises OSError.

        flock, not lockf: it belongs to the descriptor, so closing another descriptor of the file loses nothing, and two
        ledgers of one process exclude each other.
        """
        try:
            flock(self.fileno(), LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Release the lock, if it was had."""
        try:
            if self.fd is not None:
                flock(self.fd, LOCK_UN)
        except OSError:
            self.fd = None  # somebody has closed it

    def close(self) -> None:
        """Close it. That unlocks it, unless a fork has given another process the same descriptor."""
        if self.mine:
            os.close(self.fileno())
        self.fd = None

    def __del__(self) -> None:
        # As `close` does, without a call of Python that could be interrupted.
        try:
            if self.fd is not None:
                found = os.fstat(self.fd)
                if (found.st_dev, found.st_ino) == self._identity:
                    os.close(self.fd)
        except OSError:
            pass  # somebody has closed it


def claim(path: str) -> LockFile | None:
    """Lock a file without waiting. Return it, which holds the lock until it is closed or dropped; None if it is locked.

    Raises OSError.
    """
    for _ in range(_TRIES):
        # Locked through the object: a descriptor alone would keep its lock for good if an interruption lost it.
        file = LockFile(path)
        if not file.lock():
            return None
        if file.current:
            return file
        # Else it was removed after it was opened: somebody else may have locked the next one.
    return None


def is_at(path: str, fd: int) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return identity(os.stat(path, follow_symlinks=False)) == identity(os.fstat(fd))
    except FileNotFoundError:
        return False


class FileLock:
    """A lock between all threads of all processes that name the same file.

    The descriptor is opened by the process that uses it: one that was inherited through fork would share the
    parent's lock.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: LockFile | None = None
        self._fault: str | None = None
        self._running = False
        self._mutex = threading.RLock()

    def run(self, work: Callable[[], R], timeout: float) -> R:
        """Return work(), run under the lock. Raises LedgerBusyError if it cannot be had within `timeout` seconds.

        It runs a function, and is not acquired and released, because an exception may come between any two calls of
        Python (a signal handler's, Ctrl-C): only `with` on a lock written in C leaves no gap.
        """
        detect_fork()
        end, wait = monotonic() + timeout, 0.00005
        while True:
            with self._mutex:
                if self._running:  # this is a signal handler, or a finalizer, of the very thread that holds the lock
                    raise LedgerBusyError(self._path, "is held by the code that was interrupted")
                file = self._open()
                try:
                    self._running = True
                    if self._locks(file):
                        return work()
                finally:
                    self._running = False
                    # Not file.unlock(), which an exception may interrupt. In a child that work() has forked the lock is
                    # the parent's; where it was not had, nothing happens.
                    if FORK_MARK[0] and file.fd is not None:
                        try:
                            flock(file.fd, LOCK_UN)
                        except OSError:
                            self._file = None  # somebody has closed it
            # Polled, because a blocking flock has no timeout and its holder may be stopped for good; and without the
            # mutex, because other threads may be in more of a hurry.
            if monotonic() >= end:
                raise LedgerBusyError(self._path, self._fault or "is locked by a process that does not go on")
            time.sleep(wait)
            wait = min(wait * 2, 0.002)

    def _locks(self, file: LockFile) -> bool:
        """Lock the file, if it is the one that others find. Else the next try opens that."""
        self._fault = None
        try:
            if not file.lock():
                return False
            if file.current:
                return True
        except OSError as error:  # closed by another thread just now, or the file system knows no locks
            self._fault = f"cannot be locked ({error.strerror})"
        self._file = None
        return False

    def _open(self) -> LockFile:
        try:
            if self._file is None or not self._file.mine:
                self._file = LockFile(self._path)
            return self._file
        except OSError as error:
            raise LedgerBusyError(self._path, f"cannot be opened ({error.strerror})") from error

    def reset_after_fork(self) -> None:
        """Forget the parent's lock, in a forked child. Closing does not unlock: the parent's descriptor is open."""
        self._mutex = threading.RLock()
        self._running = False
        if self._file is not None:
            self._file.close()
            self._file = None


class FilePermit(Permit):
    """A slot between all processes that name the same file. The kernel frees it when its process dies."""

    _file: LockFile | None = None  # of the class: an interruption may come before __init__ has done anything

    def __init__(self, number: int, path: str) -> None:
        super().__init__(number)
        self._path = path

    def lock(self) -> bool:
        for _ in range(_TRIES):
            try:
                self._file = self._file or LockFile(self._path)
                return self._file.lock()
            except OSError as error:
                self._close()
                fault = error
                if error.errno != errno.EBADF:  # else a daemon, perhaps, has closed it
                    break
        # No call may fail for that: it is then a slot of this process only.
        self.complaint = f"{self._path}: {fault.strerror}"
        return True

    def unlock(self) -> None:
        if self._file is not None:
            self._file.unlock()

    def keep(self) -> None:
        file = self._file
        if file is not None and not (file.mine and file.current):
            self._file = None  # what others lock is opened next time

    def reset_after_fork(self) -> None:
        self._close()  # not unlocked: the lock is the parent's

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
