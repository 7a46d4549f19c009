"""Stores of the last good values, chosen by URL: this process, one file of the host, or a Redis server.

Stores exchange ages, never points in time: each store has a clock of its own, and clocks of two hosts are never
compared.
"""

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from cb import ConfigError
from cb.background.fork import detect_fork, register_fork_reset
from cb.clocks import monotonic_ns, wall_ns
from cb.extras import needs
from cb.handles import ProcessBound

from .host_file import HostFile

#: seconds to wait for a transaction of another process
_LOCK_TIMEOUT_SECONDS = 0.05


class Store(Protocol):
    """A store of values and their ages. It may lose any value, and keeps the newest one of a key.

    Subclass it, or implement its methods. All ages are in nanoseconds.
    """

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Return a value and its age, or None. An age below 0 marks an unreadable entry. Raises StoreError."""

    def put(self, key: str, value: bytes, age: int) -> None:
        """Store a value that was requested `age` ago, unless a newer one is stored. Raises StoreError."""

    def close(self) -> None:
        """Close connections and files. A later call opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_store(url: str, *, name: str = "stale", max_entries: int = 1000) -> Store:
    """Return the store of a URL. It connects when it is first used.

    Args:
        url: `memory://` for this process; `file:///PATH` for all processes of this host; `redis://`, `rediss://` or
            `unix://`, as redis-py takes them, for all hosts.
        name: Name that hosts share to use the same entries of a server.
        max_entries: Number of entries beyond which the oldest are removed, from 1 to 1000000.

    Raises:
        ConfigError: The URL or `max_entries` is invalid.
    """
    scheme, separator, path = url.partition("://")
    if not isinstance(max_entries, int) or not 1 <= max_entries <= 1_000_000:
        raise ConfigError("max_entries", "be a whole number from 1 to 1000000", max_entries)
    if url == "memory://":
        return MemoryStore(max_entries)
    if scheme == "file" and separator and Path(path).is_absolute():
        return FileStore(path, max_entries)
    if scheme in ("redis", "rediss", "unix") and separator:
        with needs("redis", "redis"):
            from .redis_store import RedisStore

        return RedisStore(url, name, max_entries)
    raise ConfigError("url", "be memory://, file:///PATH, redis://, rediss:// or unix://", f"{scheme}://...")


class MemoryStore(ProcessBound, Store):
    """Values in the memory of this process. A forked child has a copy.

    Args:
        max_entries: Number of entries beyond which the oldest are removed.
        clock: Monotonic clock, in nanoseconds.
    """

    def __init__(self, max_entries: int = 1000, clock: Callable[[], int] = monotonic_ns) -> None:
        self._max_entries = max_entries
        self._clock = clock
        #: value and time of each key, in the order of insertion
        self._entries: dict[str, tuple[bytes, int]] = {}
        self.reset_after_fork()
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._entries)} of {self._max_entries} entries>"

    def get(self, key: str) -> tuple[bytes, int] | None:
        detect_fork()
        with self._lock:
            entry = self._entries.get(key)
        return entry and (entry[0], self._clock() - entry[1])

    def put(self, key: str, value: bytes, age: int) -> None:
        since = self._clock() - age
        detect_fork()
        with self._lock:
            entry = self._entries.get(key)
            if entry and entry[1] > since:
                return
            self._entries.pop(key, None)
            self._entries[key] = value, since
            if len(self._entries) > self._max_entries:
                del self._entries[next(iter(self._entries))]

    def close(self) -> None:
        """Remove all entries."""
        detect_fork()
        with self._lock:
            self._entries.clear()

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may hold it."""
        self._lock = threading.RLock()  # reentrant: a signal handler may use the store


_TABLES = (
    "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, since INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS kept_since ON kept (since)",
)
#: types are checked here: SQLite stores any type in any column
_FIND = (
    "SELECT CASE typeof(value) WHEN 'blob' THEN value END, CASE typeof(since) WHEN 'integer' THEN since END "
    "FROM kept WHERE key = ?"
)
_TRIM = "DELETE FROM kept WHERE key IN (SELECT key FROM kept ORDER BY since DESC LIMIT -1 OFFSET ?)"


class FileStore(ProcessBound, Store):
    """Values in a SQLite file that all processes of a host share. They survive a restart.

    Ages are measured by the wall clock. An entry from the future was stored before that clock was set back: its age is
    unknown, so it counts as missing and any other value replaces it.

    Args:
        path: Path of the file, created with mode 0600.
        max_entries: Number of entries beyond which the oldest are removed.
        clock: Wall clock, in nanoseconds since the epoch.
    """

    def __init__(
        self, path: str | os.PathLike[str], max_entries: int = 1000, clock: Callable[[], int] = wall_ns
    ) -> None:
        self._file = HostFile(path, _TABLES, _LOCK_TIMEOUT_SECONDS)
        self._max_entries = max_entries
        self._clock = clock

    def __repr__(self) -> str:
        return f"<FileStore {self._file.path!r}>"

    def get(self, key: str) -> tuple[bytes, int] | None:
        row = self._file.read(_FIND, key)
        if row is None:
            return None
        value, since = row
        if value is None or since is None or since < 0:
            return b"", -1
        age = self._clock() - since
        return None if age < 0 else (value, age)

    def put(self, key: str, value: bytes, age: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            now = self._clock()
            since = now - age
            row = connection.execute(_FIND, (key,)).fetchone()
            if row is not None and None not in row and since < row[1] <= now:
                return
            connection.execute("INSERT OR REPLACE INTO kept (key, since, value) VALUES (?, ?, ?)", (key, since, value))
            if row is None:
                connection.execute("DELETE FROM kept WHERE since > ?", (now,))
                connection.execute(_TRIM, (self._max_entries,))

        self._file.write(work)

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._file.close()
