"""Invalid data in the storage of a rate limit: it fails no call, and is logged once."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from limits.storage import MemoryStorage

from cb.resilience import RateLimit, RateLimitedError
from tests.support.redis_servers import Server


def write(path: Path, query: str, *values: Any) -> None:
    """Write into a database, as another program would."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(query, values)
    connection.close()


def admitted(limit: RateLimit, calls: int, caller: str = "") -> int:
    count, waits = 0, list[float]()
    for _ in range(calls):
        try:
            limit.acquire(caller)
        except RateLimitedError as refused:
            waits.append(refused.retry_after)
        else:
            count += 1
    assert all(0 < wait <= 3600 for wait in waits)
    return count


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[("count", value) for value in ("text", "5x", b"\xff", -5, 1.5, float("inf"), 2**40, 2**62, -(2**62))],
        *[("ends", value) for value in ("text", b"\xff", -5, 0, float("inf"), float("-inf"), 2**62)],
        pytest.param("ends", time.time() + 31_536_000, id="ends-in-a-year"),
    ],
)
def test_invalid_row_of_a_rate_file_is_counted_from_0_again(
    column: str, value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit("3/hour", f"file://{tmp_path / 'r'}", name="d")
    assert (admitted(limit, 2, "a"), admitted(limit, 1, "b")) == (2, 1)
    write(tmp_path / "r", f"UPDATE windows SET {column} = ? WHERE key LIKE '%/a/%'", value)
    assert admitted(limit, 5, "a") == 3
    assert admitted(limit, 5, "b") == 2
    other = RateLimit("3/hour", f"file://{tmp_path / 'r'}", name="d")
    assert admitted(other, 5, "a") == 0
    assert caplog.text.count("is counted anew") <= 1


def test_invalid_previous_window_is_ignored(tmp_path: Path) -> None:
    limit = RateLimit("3/hour", f"file://{tmp_path / 'r'}", name="d")
    admitted(limit, 1)
    now = time.time()
    write(tmp_path / "r", "UPDATE windows SET count = 'x'")
    for window in (int(now / 3600) - 1, int(now / 3600)):
        write(
            tmp_path / "r",
            "INSERT OR REPLACE INTO windows VALUES (?, 'x', ?)",
            f"LIMITER/d/3/1/hour/{window}",
            now + 60,
        )
    assert admitted(limit, 5) == 3


STREAK_ACTIVE: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"garbage" * 1000),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "zeroed inside": lambda path: path.write_bytes(path.read_bytes()[:200] + bytes(20_000)),
    "tables of another package": lambda path: (
        write(path, "DROP TABLE windows"),
        write(path, "CREATE TABLE windows (x TEXT)"),
    ),
    "a view of that name": lambda path: (
        write(path, "DROP TABLE windows"),
        write(path, "CREATE VIEW windows AS SELECT 'd' AS key, 'x' AS count, 'y' AS ends"),
    ),
}


@pytest.mark.parametrize("how", STREAK_ACTIVE)
def test_damaged_rate_file_leaves_each_process_its_own_limit(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r"
    path.touch(mode=0o600)
    write(path, "CREATE TABLE windows (key TEXT PRIMARY KEY, count INTEGER NOT NULL, ends REAL NOT NULL)")
    write(path, "INSERT INTO windows VALUES (?, 1, 9e9)", "k" * 20_000)
    STREAK_ACTIVE[how](path)
    limit = RateLimit("3/hour", f"file://{path}", name="d")
    assert admitted(limit, 5) == 3
    assert caplog.text.count("rate limit 'd': store unavailable") == 1


class Raising(MemoryStorage):
    """A storage that raises any exception."""

    error: Exception = TypeError("'<' not supported between instances of 'str' and 'int'")

    def incr(self, *_: Any, **__: Any) -> int:
        raise self.error

    def acquire_entry(self, *_: Any, **__: Any) -> bool:
        raise self.error


@pytest.mark.parametrize("error", [TypeError("x"), ValueError(), KeyError("k"), ZeroDivisionError(), RecursionError()])
def test_storage_that_raises_anything_leaves_each_process_its_own_limit(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Raising()
    storage.error = error
    limit = RateLimit("3/hour", storage, name="d")
    assert admitted(limit, 5) == 3
    assert caplog.text.count("store unavailable") == 1


@pytest.mark.parametrize("kind", ["text", "hash", "entries of text"])
def test_invalid_rate_in_redis_leaves_each_process_its_own_limit(kind: str, emptied: Server) -> None:
    limit = RateLimit("3/hour", emptied.url, name="d")
    assert admitted(limit, 1) == 1
    (key,) = emptied.client.keys("*")
    emptied.client.delete(key)
    if kind == "text":
        emptied.client.set(key, "x")
    elif kind == "hash":
        emptied.client.hset(key, "x", "y")
    else:
        emptied.client.lpush(key, *"xyz")
    assert admitted(limit, 5) == 3


@pytest.mark.parametrize("reset", [float("inf"), float("nan"), -5.0, 1e300])
def test_retry_after_is_no_longer_than_the_window(reset: float) -> None:
    class Odd(MemoryStorage):
        def get_moving_window(self, *_: Any) -> tuple[float, int]:
            return reset, 3

    assert admitted(RateLimit("1/hour", Odd(), name="d"), 3) == 1
