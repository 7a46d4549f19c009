"""One SQLite file that all workers of a host share, for what may be lost: no data of a service belongs here.

SQLite must not meet a fork: a connection that crosses one is of no use to the child, and even new ones of its own
would rely on locks that only the parent holds. So a process has one connection to a file, opened when it is needed, and
closes it before it forks; a process that forks without a word closes it after each transaction. Until the fork is over
it opens none: `OPENING` is taken and given back by the interpreter itself, because an exception, such as a signal
handler's, may come between any two steps of a hook in Python.
"""

import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from cb.background.fork import detect_fork, forks_in_c, register_fork_reset
from cb.clocks import monotonic

from .errors import StoreError

R = TypeVar("R")
#: held by the thread that opens a connection, or forks. Whoever wants both takes it before the lock of a file
OPENING = threading.RLock()
#: set where this thread or greenlet is at work on a file: what comes there meanwhile is a signal handler or a finalizer
_AT_WORK: ContextVar[bool] = ContextVar("cb.resilience.host_file", default=False)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class HostFile:
    """Transactions on a file, made with its tables where there is none. Private to its user, mode 0600.

    `lock_timeout` is the seconds for which a transaction waits for another process.
    """

    def __init__(self, path: str | os.PathLike[str], tables: tuple[str, ...], lock_timeout: float) -> None:
        self.path = os.fspath(path)
        self._tables = tables
        self._lock_timeout = lock_timeout
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._stray: sqlite3.Connection | None = None
        register_fork_reset(self)
        with OPENING:
            _FILES.add(self)

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
            connection = self._connection
            try:
                if connection is not None:
                    connection.close()
            except sqlite3.Error:
                pass
            finally:
                self._connection = None  # one that an interruption has left open closes when it goes

    def reset_after_fork(self) -> None:
        """Start over in a forked child."""
        self._lock = threading.RLock()
        _AT_WORK.set(False)
        # Never closed: that would hurt the parent's. SQLite takes its locks for those of this process.
        self._stray, self._connection = self._stray or self._connection, None

    def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        detect_fork()
        if _AT_WORK.get():
            raise StoreError(self.path, "is in use by the code that was interrupted")
        if self._stray is not None:
            raise StoreError(self.path, "was open when this process was forked, and would not be safe in it")
        end = monotonic() + self._lock_timeout
        while True:
            with self._lock:
                if (connection := self._connection) is not None:
                    try:
                        return self._guarded_locked(partial(work, connection), end)
                    finally:
                        if forks_in_c():
                            self.close()
            with OPENING, self._lock:
                if self._connection is None:
                    self._connection = self._guarded_locked(self._open, end)

    def _guarded_locked(self, step: Callable[[], R], end: float) -> R:
        try:
            _AT_WORK.set(True)
            return _patiently(step, end)
        except (sqlite3.Error, OSError) as error:
            if not _busy(error):
                self.close()
            raise StoreError(self.path, str(error)) from error
        except BaseException:
            self.close()  # an interruption may have come just after a transaction began, and others wait for it
            raise
        finally:
            _AT_WORK.set(False)

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


def _patiently(step: Callable[[], R], end: float) -> R:
    # SQLite's own way of waiting begins with a whole millisecond, and leaves the switch to WAL out.
    wait = 0.0001
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if not _busy(error) or monotonic() >= end:
                raise
        time.sleep(wait)
        wait = min(wait * 2, 0.002)


def _busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_BUSY


_FILES: weakref.WeakSet[HostFile] = weakref.WeakSet()


class _Opening:
    """Has nobody hold OPENING in a forked child: a fork in C runs no hooks."""

    def reset_after_fork(self) -> None:
        OPENING._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as concurrent.futures does


_OPENING = _Opening()
register_fork_reset(_OPENING)


def _close_all() -> None:
    """Close all files before a fork, when their transactions have ended. Caller holds OPENING."""
    interruption = None
    while True:
        try:
            for file in list(_FILES):
                file.close()
            break
        except BaseException as error:  # noqa: BLE001 - what a hook raises stops no fork: a connection would cross it
            interruption = error.with_traceback(None)
    if interruption:
        raise interruption


if hasattr(os, "register_at_fork"):
    # Hooks before a fork run in reverse: OPENING is taken first.
    os.register_at_fork(before=_close_all)
    os.register_at_fork(
        before=OPENING.acquire,
        after_in_parent=OPENING.release,
        after_in_child=OPENING._at_fork_reinit,  # type: ignore[attr-defined]  # noqa: SLF001 - as concurrent.futures does
    )
