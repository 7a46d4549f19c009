"""A storage for `limits` that all workers of a host share: one SQLite file, by `file:///PATH`.

Windows follow the wall clock, as in all storages of `limits`: after it is set back, a window may be counted twice.
"""

import sqlite3
from collections.abc import Callable
from math import floor
from pathlib import Path
from typing import Any, TypeVar

from limits.storage import SlidingWindowCounterSupport, Storage
from limits.storage.base import TimestampedSlidingWindow

from cb.clocks import wall
from cb.log import Log

from .errors import StoreError
from .host_file import HostFile

log = Log(__name__)

R = TypeVar("R")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS windows (key TEXT PRIMARY KEY, count INTEGER NOT NULL, ends REAL NOT NULL)",
    "CREATE INDEX IF NOT EXISTS windows_ends ON windows (ends)",
)
#: condition for a valid row, since SQLite stores any type in any column: the window has not ended, and does not end
#: later than one that begins now
_SOUND = "typeof(count) = 'integer' AND count BETWEEN 0 AND 2147483647 AND ends > ? AND ends <= ?"
_ONE = f"SELECT count FROM windows WHERE key = ? AND {_SOUND}"  # noqa: S608 - it contains no values
_BOTH = f"SELECT ({_ONE}), ({_ONE})"
_ENDS = f"SELECT ends FROM windows WHERE key = ? AND {_SOUND}"  # noqa: S608 - it contains no values
_DROP = f"DELETE FROM windows WHERE key = ? AND NOT ifnull({_SOUND}, 0)"  # noqa: S608 - it contains no values
#: seconds, longer than any window
_LONGEST = 3_200_000_000
#: seconds to wait for a transaction of another process
_LOCK_TIMEOUT_SECONDS = 0.25


class FileStorage(Storage, SlidingWindowCounterSupport, TimestampedSlidingWindow):
    """A storage that counts each call in a transaction of its own.

    Args:
        uri: `file:///PATH`.
        wrap_exceptions: True to raise the errors of `limits` instead of StoreError.
        clock: Wall clock, in seconds since the epoch.
        options: Options of a storage of `limits`.
    """

    STORAGE_SCHEME = ["file"]  # noqa: RUF012 - limits declares it without ClassVar

    def __init__(
        self,
        uri: str,
        wrap_exceptions: bool = False,
        clock: Callable[[], float] = wall,
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        path = Path(uri.removeprefix("file://"))
        if not path.is_absolute():
            raise ValueError(uri)
        self._file = HostFile(path, _TABLES, _LOCK_TIMEOUT_SECONDS)
        self._clock = clock
        self._damaged = self._damage_logged = False

    def __repr__(self) -> str:
        return f"<FileStorage {self._file.path!r}>"

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._file.close()

    @property
    def base_exceptions(self) -> type[Exception]:
        return StoreError

    def incr(self, key: str, expiry: float, amount: int = 1, **_: bool) -> int:  # limits 4 passes elastic_expiry=False
        return self._count(lambda connection: self._add(connection, key, expiry, amount))

    def get(self, key: str) -> int:
        now = self._clock()
        row = self._file.read(_ONE, key, now, now + _LONGEST)
        return row[0] if row else 0

    def get_expiry(self, key: str) -> float:
        now = self._clock()
        row = self._file.read(_ENDS, key, now, now + _LONGEST)
        return row[0] if row else now

    def check(self) -> bool:
        try:
            self._file.read("SELECT 1")
        except StoreError:
            return False
        return True

    def reset(self) -> int:
        return self._file.write(lambda connection: connection.execute("DELETE FROM windows").rowcount)

    def clear(self, key: str) -> None:
        self._file.write(lambda connection: connection.execute("DELETE FROM windows WHERE key = ?", (key,)))

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            now = self._clock()
            before, current = self.sliding_window_keys(key, expiry, now)
            last = now + 2 * expiry
            counts = connection.execute(_BOTH, (before, now, last, current, now, last)).fetchone()
            previous, rest, count, _ = _windows(counts, expiry, now)
            if floor(previous * rest / expiry) + count + amount > limit:
                return False
            self._add(connection, current, 2 * expiry, amount)
            return True

        return self._count(work)

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        now = self._clock()
        before, current = self.sliding_window_keys(key, expiry, now)
        last = now + 2 * expiry
        return _windows(self._file.read(_BOTH, before, now, last, current, now, last), expiry, now)

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        for each in self.sliding_window_keys(key, expiry, self._clock()):
            self.clear(each)

    def _count(self, work: Callable[[sqlite3.Connection], R]) -> R:
        result = self._file.write(work)
        if self._damaged and not self._damage_logged:
            self._damage_logged = True
            log.warning("rates in %s: the count of a key was damaged, and starts again from 0", self._file.path)
        return result

    def _add(self, connection: sqlite3.Connection, key: str, expiry: float, amount: int) -> int:
        """Count calls in the current window of a key, or in a new one. Return its count."""
        now = self._clock()
        connection.execute("DELETE FROM windows WHERE ends <= ? OR ends > ?", (now, now + _LONGEST))
        if connection.execute(_DROP, (key, now, now + expiry)).rowcount:
            self._damaged = True
        connection.execute("INSERT OR IGNORE INTO windows (key, count, ends) VALUES (?, 0, ?)", (key, now + expiry))
        connection.execute("UPDATE windows SET count = count + ? WHERE key = ?", (amount, key))
        count: int = connection.execute("SELECT count FROM windows WHERE key = ?", (key,)).fetchone()[0]
        return count


def _windows(counts: tuple[int | None, int | None], expiry: int, now: float) -> tuple[int, float, int, float]:
    """Return count and remaining seconds of the previous window, and of the current one."""
    previous, current = counts[0] or 0, counts[1] or 0
    rest = (1 - now / expiry % 1) * expiry
    return previous, rest if previous else 0.0, current, rest + expiry
