"""Locks between processes that the kernel frees when their holder dies. POSIX only."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from typing import TypeVar

from cb.background.event_loop import on_event_loop, patience
from cb.background.fork import FORK_MARK, detect_fork
from cb.clocks import monotonic
from cb.errors import LedgerBusyError
from cb.log import Log

from .semaphore import Permit

log = Log(__name__)

R = TypeVar("R")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
#: attempts to open a lock file that is removed again and again
_TRIES = 5


def identity(found: os.stat_result) -> tuple[int, int]:
    """Return the device and the inode of a file."""
    return found.st_dev, found.st_ino


class LockFile:
    """An open lock file.

    A cleaner may remove it, and a daemon may close its descriptor, whose number is then another file's. Therefore no
    descriptor is used or closed before `mine` has confirmed that it is still this file's, and a lock is valid only
    while the file is `current`, because other processes lock the one that they find at the path.
    """

    # Of the class: an interruption may come before __init__ has done anything.
    fd: int | None = None
    _identity = (0, 0)

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self.fd = os.open(path, _FLAGS, 0o600) if fd is None else fd
        self._identity = identity(os.fstat(self.fd))

    def __repr__(self) -> str:
        return f"<LockFile {self.path}, fd {self.fd}>"

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
        """True if the file is the one at its path, or if its directory is gone, and with it any other lock file."""
        try:
            return identity(os.stat(self.path, follow_symlinks=False)) == self._identity
        except OSError:
            return not os.path.isdir(os.path.dirname(self.path))

    def lock(self) -> bool:
        """Lock it without waiting. Return False if it is locked elsewhere. Raises OSError.

        flock, not lockf: the lock belongs to the descriptor, so closing another descriptor of the file loses nothing,
        and two ledgers of one process exclude each other.
        """
        try:
            flock(self.fileno(), LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Release the lock, if it is held."""
        try:
            if self.fd is not None:
                flock(self.fd, LOCK_UN)
        except OSError:
            self.fd = None  # another thread or a daemon has closed it

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
            pass  # another thread or a daemon has closed it


def claim(path: str) -> LockFile | None:
    """Lock a file without waiting. Return it, or None if it is locked; it is unlocked when it is closed or dropped.

    Raises OSError.
    """
    for _ in range(_TRIES):
        # Locked through the object: a bare descriptor would keep its lock for good if an interruption lost it.
        file = LockFile(path)
        if not file.lock():
            return None
        if file.current:
            return file
        # Otherwise it was removed after it was opened: another process may have locked the next one.
    return None


def is_at(path: str, fd: int) -> bool:
    """Return True if an open file is the one at a path."""
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

    def __repr__(self) -> str:
        return f"<FileLock {self._path} {'held' if self._running else 'free'} in this process>"

    def run(self, work: Callable[[], R], timeout: float) -> R:
        """Return work(), run under the lock. Raises LedgerBusyError if it is not available within `timeout` seconds.

        On an event loop it does not wait, or only half a millisecond where `timeout` is a second: a quarter of a second
        while that loop has no other task.

        It runs a function, and is not acquired and released, because an exception may come between any two calls of
        Python (a signal handler's, Ctrl-C): only `with` on a lock written in C leaves no gap.
        """
        detect_fork()
        if self._running and on_event_loop():  # perhaps by a thread that the system does not let go on
            raise LedgerBusyError(self._path, "is held by another thread")
        start, wait, limit = monotonic(), 0.00005, None
        while True:
            with self._mutex:
                if self._running:  # a signal handler, or a finalizer, of the very thread that holds the lock
                    raise LedgerBusyError(self._path, "is held by the code that was interrupted")
                file = self._open()
                try:
                    self._running = True
                    if self._locks(file):
                        return work()
                finally:
                    self._running = False
                    # Not file.unlock(), which an exception may interrupt. In a child that work() has forked the lock is
                    # the parent's; if it was not locked, nothing happens.
                    if FORK_MARK[0] and file.fd is not None:
                        try:
                            flock(file.fd, LOCK_UN)
                        except OSError:
                            self._file = None  # another thread or a daemon has closed it
            # Polled, because a blocking flock has no timeout and its holder may be stopped for good; and without the
            # mutex, because other threads may have shorter timeouts.
            if limit is None:
                limit = patience(timeout)
            if monotonic() - start >= limit:
                raise LedgerBusyError(self._path, self._fault or "is locked by a process that does not go on")
            time.sleep(wait)
            wait = min(wait * 2, 0.002)

    def _locks(self, file: LockFile) -> bool:
        """Lock the file, if it is the one at the path. Otherwise the next attempt opens that one."""
        self._fault = None
        try:
            if not file.lock():
                return False
            if file.current:
                return True
        except OSError as error:  # closed by another thread just now, or the file system has no locks
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

    @property
    def at_its_path(self) -> bool:
        """True if the file that `run` has locked is still at its path: it is removed under its own lock only."""
        return self._file is not None and is_at(self._path, self._file.fileno())

    def close(self) -> None:
        """Close the file. The next `run` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def reset_after_fork(self) -> None:
        """Drop the parent's lock, in a forked child. Closing does not unlock: the parent's descriptor is open."""
        self._mutex = threading.RLock()
        self._running = False
        self.close()


class FilePermit(Permit):
    """A permit between all processes that name the same file. The kernel frees it when its process dies."""

    _file: LockFile | None = None  # of the class: an interruption may come before __init__ has done anything

    def __init__(self, number: int, path: str) -> None:
        super().__init__(number)
        self._path = path

    def __repr__(self) -> str:
        return f"<FilePermit {self._path}>"

    def lock(self) -> bool:
        for _ in range(_TRIES):
            try:
                self._file = self._file or LockFile(self._path)
                return self._file.lock()
            except OSError as error:
                self._close()
                fault = error
                if error.errno != errno.EBADF:  # otherwise a daemon, perhaps, has closed it
                    break
        # No call may fail because of that: the permit is then one of this process only.
        self.fault = f"{self._path}: {fault.strerror}"
        return True

    def unlock(self) -> None:
        if self._file is not None:
            self._file.unlock()

    def verify(self) -> None:
        file = self._file
        if file is not None and not (file.mine and file.current):
            self._file = None  # the next `lock` opens the file that others lock

    def reset_after_fork(self) -> None:
        self._close()  # not unlocked: the lock is the parent's

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class Claims:
    """The shards and roles that this process owns: lock files of a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._owned: dict[int | str, LockFile] = {}
        self._warned_role = self._warned_relock = False
        #: reason why the last claim of a shard failed, if not because it has an owner
        self.fault: str | None = None

    def __repr__(self) -> str:
        return f"<Claims in {self._directory}: {', '.join(map(str, self._owned)) or 'none'}>"

    def __contains__(self, key: int | str) -> bool:
        return key in self._owned

    def __iter__(self) -> Iterator[int | str]:
        return iter(list(self._owned))

    @property
    def shards(self) -> list[int]:
        """The shards that this process owns."""
        return [key for key in list(self._owned) if isinstance(key, int)]

    def claim(self, key: int | str) -> bool:
        """Own a shard or a role until this process ends or gives it up. Return False if it has an owner."""
        detect_fork()
        if isinstance(key, int):
            self.fault = None
        if key not in self._owned and (file := self._try(key)) is not None:
            self._owned[key] = file
            return True
        return False

    def give_up(self, key: int | str) -> None:
        """Give it up."""
        detect_fork()
        if file := self._owned.pop(key, None):
            file.close()

    def alive(self, key: int | str) -> bool:
        """Return True if it has an owner."""
        detect_fork()
        if key in self._owned:
            return True
        file = self._try(key)
        if file is not None:
            file.close()
        return file is None

    def keep(self) -> tuple[list[int], list[int]]:
        """Verify the locks, and lock again those whose file or descriptor was taken away.

        Returns the shards that were locked again, and those that another process has taken, which are owned no more.
        A role that another process has taken is owned no more either.
        """
        relocked: list[int | str] = []
        taken: list[int | str] = []
        for key, file in list(self._owned.items()):
            if file.mine and file.current:
                continue
            if (again := self._try(key)) is None and os.path.isdir(self._directory):
                taken.append(key)
                self.give_up(key)
            elif again:
                relocked.append(key)
                self._owned[key] = again
            if not self._warned_relock:
                self._warned_relock = True
                log.warning("%s: lock files were removed or closed while they were in use", self._directory)
        return [key for key in relocked if isinstance(key, int)], [key for key in taken if isinstance(key, int)]

    def _try(self, key: int | str) -> LockFile | None:
        try:
            return claim(f"{self._directory}/{key}")
        except OSError as error:
            # No call may fail because of that.
            if isinstance(key, int):
                self.fault = str(error)
            elif not self._warned_role:
                self._warned_role = True  # before the line: its handler may come here
                log.warning("no role can be taken in the ledger: %s", error)
            return None

    def reset_after_fork(self) -> None:
        """Start over in a forked child, as a process that owns nothing."""
        self.release()
        self._close_strays()

    def release(self) -> None:
        """Give everything up."""
        owned, self._owned = self._owned, {}
        for file in owned.values():
            file.close()

    def _close_strays(self) -> None:
        """Close files that a thread of the parent had opened, but not recorded yet, when the child was forked."""
        with suppress(OSError):  # the directory may be gone
            with os.scandir(self._directory) as entries:
                inodes = {entry.inode() for entry in entries}
            device = os.stat(self._directory).st_dev
            for number in map(int, os.listdir("/dev/fd")):
                with suppress(OSError):  # the descriptor that listed them
                    found = os.fstat(number)
                    if found.st_dev == device and found.st_ino in inodes:
                        os.close(number)
