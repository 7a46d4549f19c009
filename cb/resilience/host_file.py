"""A SQLite file that all workers of a host share, for data that may be lost: no service may keep its own data here.

A SQLite connection must not cross a fork: the child cannot use it, and even new connections of the child would rely on
locks that only the parent holds. So a process has one connection to a file, opens it on demand, and closes it before it
forks; a process whose forks run no hooks closes it after each transaction. During a fork it opens none: the interpreter
itself acquires and releases `OPENING`, because an exception, such as a signal handler's, may interrupt a hook written
in Python between any two steps.
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
from typing import Any, Self, TypeVar

from cb.background.fork import detect_fork, forks_in_c, register_fork_reset
from cb.clocks import monotonic

from .errors import StoreError

R = TypeVar("R")
#: held while a connection is opened, and during a fork. Lock order: OPENING before the lock of a file
OPENING = threading.RLock()
#: True while this thread or greenlet uses a file: code that runs then is a signal handler or a finalizer
_IN_USE: ContextVar[bool] = ContextVar("cb.resilience.host_file", default=False)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


class HostFile:
    """Transactions on a SQLite file, created with its tables if it is missing. Private to its user, mode 0600.

    Args:
        path: Path of the file.
        tables: Statements that create tables and indexes, each with IF NOT EXISTS.
        lock_timeout: Seconds to wait for a transaction of another process.
    """

    def __init__(self, path: str | os.PathLike[str], tables: tuple[str, ...], lock_timeout: float) -> None:
        self.path = os.fspath(path)
        self._tables = tables
        self._lock_timeout = lock_timeout
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()
        self._inherited: sqlite3.Connection | None = None
        register_fork_reset(self)
        with OPENING:
            _FILES.add(self)

    def __repr__(self) -> str:
        return f"<HostFile {self.path!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, query: str, *values: Any) -> Any:
        """Return the first row of a query, or None. Does not wait for writers. Raises StoreError."""
        return self._run(lambda connection: connection.execute(query, values).fetchone())

    def write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Return work(connection), run in a transaction that excludes all other writers. Raises StoreError."""

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
        """Close the connection. A later call opens it again."""
        with self._lock:
            connection = self._connection
            try:
                if connection is not None:
                    connection.close()
            except sqlite3.Error:
                pass
            finally:
                self._connection = None  # left open by an interruption, it is closed when it is collected

    def reset_after_fork(self) -> None:
        """Replace lock and connection in a forked child."""
        self._lock = threading.RLock()
        _IN_USE.set(False)
        # Never closed: SQLite would release locks of the parent, taking them for those of this process.
        self._inherited, self._connection = self._inherited or self._connection, None

    def _run(self, work: Callable[[sqlite3.Connection], R]) -> R:
        detect_fork()
        if _IN_USE.get():
            raise StoreError(self.path, "is in use by the code that was interrupted")
        if self._inherited is not None:
            raise StoreError(self.path, "was open when this process was forked, and is not safe to use in it")
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
            _IN_USE.set(True)
            return _retry_while_busy(step, end)
        except (sqlite3.Error, OSError) as error:
            if not _busy(error):
                self.close()
            raise StoreError(self.path, str(error)) from error
        except BaseException:
            self.close()  # the interruption may have left a transaction open, for which others would wait
            raise
        finally:
            _IN_USE.set(False)

    def _open(self) -> sqlite3.Connection:
        # Only a new file is opened here: closing a second descriptor of a file in use would release SQLite's locks.
        with suppress(FileExistsError):
            os.close(os.open(self.path, _NEW, 0o600))  # SQLite creates its other files with the same mode
        found = os.lstat(self.path)
        own = not hasattr(os, "geteuid") or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
        if not own or not stat.S_ISREG(found.st_mode):
            raise StoreError(self.path, "is not a private file of this user (owner, mode 0600)")
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")  # a crash of the machine may lose data
            for table in self._tables:
                connection.execute(table)
        except BaseException:
            connection.close()
            raise
        return connection


def _retry_while_busy(step: Callable[[], R], end: float) -> R:
    # SQLite's own busy timeout starts with a whole millisecond, and does not cover the switch to WAL.
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
    """Resets OPENING in a forked child: a fork in C runs no hooks."""

    def reset_after_fork(self) -> None:
        OPENING._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as concurrent.futures does


_OPENING = _Opening()
register_fork_reset(_OPENING)


def _close_all() -> None:
    """Close all files before a fork, after their transactions. The caller holds OPENING."""
    interruption = None
    while True:
        try:
            for file in list(_FILES):
                file.close()
            break
        except BaseException as error:  # noqa: BLE001 - a hook that raises does not stop the fork: a connection would cross it
            interruption = error.with_traceback(None)
    if interruption:
        raise interruption


if hasattr(os, "register_at_fork"):
    # Hooks before a fork run in reverse order: OPENING is acquired first.
    os.register_at_fork(before=_close_all)
    os.register_at_fork(
        before=OPENING.acquire,
        after_in_parent=OPENING.release,
        after_in_child=OPENING._at_fork_reinit,  # type: ignore[attr-defined]  # noqa: SLF001 - as concurrent.futures does
    )
