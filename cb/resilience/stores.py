"""Where the last good answers are kept, chosen by URL: this process, one file of the host, or a Redis server.

Ages cross this border, never instants: each store has a clock of its own, and those of two hosts are never compared.
"""

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cb.background.fork import detect_fork, register_fork_reset
from cb.clocks import monotonic_ns, wall_ns
from cb.errors import ConfigError
from cb.handles import ProcessBound

from .host_file import HostFile

_TIMEOUT_SECONDS = 0.05  # seconds that an answer waits for another process


class Store(Protocol):
    """What all stores have in common. Any of them may forget anything; each keeps the newest of a key. Ages are ns."""

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Return a value and its age, below 0 if what is there is none of ours. Raises StoreError."""

    def put(self, key: str, value: bytes, age: int) -> None:
        """Keep a value that was asked for so long ago, unless there is one of a later question. Raises StoreError."""


def open_store(url: str, *, name: str = "stale", max_entries: int = 1000) -> Store:
    """Return the store that a URL means; nothing is opened before the first use. Raises ConfigError.

    `memory://` is of this process, `file:///PATH` of all processes of this host, and `redis://`, `rediss://` or
    `unix://`, as redis-py takes them, of all that give them the same name. The oldest go first when there are more than
    `max_entries`.
    """
    scheme, separator, place = url.partition("://")
    if not isinstance(max_entries, int) or not 1 <= max_entries <= 1_000_000:
        raise ConfigError("max_entries", "be a whole number from 1 to 1000000", max_entries)
    if url == "memory://":
        return MemoryStore(max_entries)
    if scheme == "file" and separator and Path(place).is_absolute():
        return FileStore(place, max_entries)
    if scheme in ("redis", "rediss", "unix") and separator:
        from .redis_store import RedisStore

        return RedisStore(url, name, max_entries)
    raise ConfigError("url", "be memory://, file:///PATH, redis://, rediss:// or unix://", f"{scheme}://...")


class MemoryStore(ProcessBound):
    """Values of this process. A forked child goes on with a copy."""

    def __init__(self, max_entries: int = 1000, clock: Callable[[], int] = monotonic_ns) -> None:
        self._max_entries = max_entries
        self._clock = clock
        #: in the order in which they came
        self._kept: dict[str, tuple[bytes, int]] = {}
        self.reset_after_fork()
        register_fork_reset(self)

    def get(self, key: str) -> tuple[bytes, int] | None:
        detect_fork()
        with self._lock:
            kept = self._kept.get(key)
        return kept and (kept[0], self._clock() - kept[1])

    def put(self, key: str, value: bytes, age: int) -> None:
        since = self._clock() - age
        detect_fork()
        with self._lock:
            kept = self._kept.get(key)
            if kept and kept[1] > since:
                return
            self._kept.pop(key, None)
            self._kept[key] = value, since
            if len(self._kept) > self._max_entries:
                del self._kept[next(iter(self._kept))]

    def reset_after_fork(self) -> None:
        """Forget, in a forked child, which thread of the parent is at work."""
        self._lock = threading.RLock()  # a signal handler may read, too


_TABLES = (
    "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, since INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS kept_since ON kept (since)",
)
#: SQLite keeps anything in any column
_FIND = (
    "SELECT CASE typeof(value) WHEN 'blob' THEN value END, CASE typeof(since) WHEN 'integer' THEN since END "
    "FROM kept WHERE key = ?"
)
_TRIM = "DELETE FROM kept WHERE key IN (SELECT key FROM kept ORDER BY since DESC LIMIT -1 OFFSET ?)"


class FileStore(ProcessBound):
    """Values in a file that all processes of a host share. It lives as long as the file, beyond a restart too.

    Its clock is the wall's. A value from the future was kept before that clock was set back: nobody can tell its age,
    so it is not there, and any other may take its place.
    """

    def __init__(
        self, path: str | os.PathLike[str], max_entries: int = 1000, clock: Callable[[], int] = wall_ns
    ) -> None:
        self._file = HostFile(path, _TABLES, _TIMEOUT_SECONDS)
        self._max_entries = max_entries
        self._clock = clock

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
