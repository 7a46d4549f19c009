"""One SQLite file that all workers of a host share, for what may be lost: no data of a service belongs here.

SQLite must not meet a fork: a connection that crosses one is of no use to the child, and even new ones of its own
would rely on locks that only the parent holds. So a process has one connection to a file, opened when it is needed, and
closes it before it forks.
"""

import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from cb.clocks import monotonic

from .errors import StoreError

R = TypeVar("R")
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class HostFile:
    """Transactions on a file, made with its tables where there is none. Private to its user, mode 0600.

    `patience` is the seconds for which a transaction waits for another process.
    """

    def __init__(self, path: str | os.PathLike[str], tables: tuple[str, ...], patience: float) -> None:
        self.path = os.fspath(path)
        self._tables = tables
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._running = False
        _FORKS.add(self)

    def read(self, query: str, *values: Any) -> Any:
        """Return the first row that a query finds, or None. Waits for no writer. Raises StoreError."""
        return self._run(lambda connection: connection.execute(query, values).fetchone())

    def write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Return work(connection), a transaction that overlaps with no other. Raises StoreError."""

        def transaction(connection: sqlite3.Connection) -> R:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return result

        return self._run(transaction)

    def close(self) -> None:
        """Give the connection up, until it is needed again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()

    def pause(self) -> None:
        """Wait for what is under way, then have no connection until `resume`."""
        self._lock.acquire()
        self.close()

    def resume(self) -> None:
        """Go on, in the thread that has paused it."""
        self._lock.release()

    def renew(self) -> None:
        """Start over in a forked child."""
        self._lock = threading.RLock()
        self._running = False
        if self._connection is not None:  # a server in C has forked past our hooks
            _FORKS.strays.append(self._connection)  # never closed: that would hurt the parent's
            self._connection = None

    def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        end = monotonic() + self._patience
        with self._lock:
            if self._running:  # this is a signal handler of the very thread that is at work
                raise StoreError(self.path, "is in use by the code that was interrupted")
            try:
                self._running = True
                return self._patiently(work, end)
            except (sqlite3.Error, OSError) as error:
                if not _busy(error):
                    self.close()
                raise StoreError(self.path, str(error)) from error
            except BaseException:
                self.close()  # an interruption may have come just after a transaction began, and others wait for it
                raise
            finally:
                self._running = False

    def _patiently(self, work: Callable[[sqlite3.Connection], R], end: float) -> R:
        # SQLite's own way of waiting begins with a whole millisecond, and leaves the switch to WAL out.
        wait = 0.0001
        while True:
            try:
                if self._connection is None:
                    self._connection = self._open()
                return work(self._connection)
            except sqlite3.OperationalError as error:
                if not _busy(error) or monotonic() >= end:
                    raise
            time.sleep(wait)
            wait = min(wait * 2, 0.002)

    def _open(self) -> sqlite3.Connection:
        # Only a new file is opened here: closing another descriptor of one in use would free SQLite's locks on it.
        with suppress(FileExistsError):
            os.close(os.open(self.path, _NEW, 0o600))  # SQLite gives its other files the same mode
        found = os.lstat(self.path)
        own = not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
        if not own or not stat.S_ISREG(found.st_mode):
            raise StoreError(self.path, "is not a private file of this user (owner, mode 0600)")
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")  # what a crash of the machine takes, it may take
            for table in self._tables:
                connection.execute(table)
        except BaseException:
            connection.close()
            raise
        return connection


def _busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_BUSY


class _Forks:
    """Closes the files of this process before it forks, and keeps them closed meanwhile."""

    def __init__(self) -> None:
        self._files: weakref.WeakSet[HostFile] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._paused: list[HostFile] = []
        self.strays: list[sqlite3.Connection] = []

    def add(self, file: HostFile) -> None:
        with self._lock:
            self._files.add(file)

    def before(self) -> None:
        self._lock.acquire()
        self._paused = []
        for file in list(self._files):
            file.pause()
            self._paused.append(file)

    def after_in_parent(self) -> None:
        while self._paused:
            self._paused.pop().resume()
        self._lock.release()

    def after_in_child(self) -> None:
        self._lock = threading.RLock()
        for file in list(self._files):
            file.renew()


_FORKS = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_FORKS.before, after_in_parent=_FORKS.after_in_parent, after_in_child=_FORKS.after_in_child
    )
