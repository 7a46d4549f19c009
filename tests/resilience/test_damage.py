"""Garbage in what workers and hosts share: no caller gets it, none gets an exception for it, and it is said once."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from limits.storage import MemoryStorage

from cb.resilience import StaleCache, open_store
from cb.resilience.rate import RateLimit, RateLimitedError
from cb.resilience.stores import MemoryStore
from cb.testing import FakeClock
from tests.fleet.servers import BINARIES, Server

VALUES, TIMES = "cb:stale:{stale}:values", "cb:stale:{stale}:times"
YEAR = 31_536_000


@pytest.fixture(scope="module", params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(BINARIES[request.param], tmp_path_factory.mktemp("server")) as made:
        yield made


def fail() -> Any:
    raise TimeoutError


def filled(url: str) -> StaleCache[Any]:
    """Return a cache that has kept a value of each of two keys."""
    cache: StaleCache[Any] = StaleCache("c", open_store(url), usable_for=60)
    for key in ("k", "other"):
        cache.read(key, lambda key=key: {"price": key})
    return cache


def serves_only_the_other(cache: StaleCache[Any]) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            cache.read("k", fail)
    assert cache.read("other", fail).value == {"price": "other"}
    assert cache.read("k", lambda: 1).value == 1
    assert cache.read("k", fail).value == 1


#: the seal, as if it were one of the cache's, is of another value
SEALED = b"cb1\x00\x00\x00\x00"
FOREIGN = [b"", b"1", b'{"price": "1"}', b"\x80\x04K\x01.", b"\xff\xfe", b"cb1", SEALED, SEALED + b'"x"', b"x" * 2**20]


@pytest.mark.parametrize("value", FOREIGN)
def test_value_in_redis_that_is_not_what_was_kept_is_not_served(
    value: bytes, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.client.flushall()
    cache = filled(server.url)
    redis.Redis(port=server.port).hset(VALUES, "c/k", value)
    serves_only_the_other(cache)
    assert caplog.text.count("what is kept for 'k' cannot be read") == 1


@pytest.mark.parametrize("since", [float("-inf"), -1e300, -1e17, 0, 1, float("inf"), 1e300])
def test_value_in_redis_whose_time_is_none_is_not_served(since: float, server: Server) -> None:
    server.client.flushall()
    cache = filled(server.url)
    server.client.zadd(TIMES, {"c/k": since})
    serves_only_the_other(cache)


@pytest.mark.parametrize("cut", [1, 3, 8, 14])
def test_value_that_was_cut_off_is_not_served(cut: int, server: Server) -> None:
    server.client.flushall()
    cache, raw = filled(server.url), redis.Redis(port=server.port)
    cache.read("k", lambda: 12345678901234)  # still a number, if some digits are missing
    kept = raw.hget(VALUES, "c/k")
    assert isinstance(kept, bytes)
    raw.hset(VALUES, "c/k", kept[:-cut])
    serves_only_the_other(cache)


def test_value_that_was_moved_to_another_key_is_not_served(server: Server) -> None:
    server.client.flushall()
    cache, raw = filled(server.url), redis.Redis(port=server.port)
    raw.hset(VALUES, "c/k", raw.hget(VALUES, "c/other") or b"")  # type: ignore[arg-type]  # no coroutine
    serves_only_the_other(cache)


@pytest.mark.parametrize("key", [VALUES, TIMES])
@pytest.mark.parametrize("kind", ["text", "list"])
def test_key_in_redis_of_another_type_costs_the_cache_and_no_answer(
    key: str, kind: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.client.flushall()
    cache = filled(server.url)
    server.client.delete(key)
    if kind == "text":
        server.client.set(key, "garbage")
    else:
        server.client.lpush(key, "garbage")
    assert [cache.read("k", lambda n=n: n).value for n in range(3)] == [0, 1, 2]
    with pytest.raises(TimeoutError):
        cache.read("k", fail)
    assert caplog.text.count("goes on without") == 1


def test_url_that_has_texts_decoded_still_keeps_bytes(server: Server) -> None:
    server.client.flushall()
    store = open_store(f"{server.url}?decode_responses=true")
    store.put("k", bytes(range(256)), 0)
    assert (found := store.get("k")) and found[0] == bytes(range(256))


def rows(path: Path, query: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(query, values)
    connection.close()


@pytest.mark.parametrize("value", [*FOREIGN, "text", 5, 1.5])
def test_value_in_a_file_that_is_not_what_was_kept_is_not_served(
    value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = filled(f"file://{tmp_path / 'c'}")
    rows(tmp_path / "c", "UPDATE kept SET value = ? WHERE key = 'c/k'", value)
    serves_only_the_other(cache)
    assert caplog.text.count("what is kept for 'k' cannot be read") == 1


@pytest.mark.parametrize("since", ["text", b"\xff", -1, -(2**62), 2**62, 1.5, float("inf"), float("-inf"), 0])
def test_value_in_a_file_whose_time_is_none_is_not_served(since: Any, tmp_path: Path) -> None:
    cache = filled(f"file://{tmp_path / 'c'}")
    rows(tmp_path / "c", "UPDATE kept SET since = ? WHERE key = 'c/k'", since)
    serves_only_the_other(cache)


class Odd(MemoryStore):
    """A store of somebody else, which answers what it likes."""

    found: Any = None

    def get(self, key: str) -> Any:  # noqa: ARG002 - as all stores
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    "found",
    [
        *[(SEALED, age) for age in (-1, -1e9, float("nan"), 1.5, None, "1", True, 2**70)],
        *(5, "x", (), (b"x",), (b"1", 1, 1), ("1", 1), (None, 0), [b"1", 1], ValueError("x"), KeyError(1)),
    ],
)
def test_answer_of_a_store_that_makes_no_sense_is_none(found: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = Odd()
    cache: StaleCache[Any] = StaleCache("c", store, usable_for=60, fresh_for=60)
    store.found = found
    for number in range(3):
        assert cache.read("k", lambda number=number: number) == cache.read("x", lambda number=number: number)
    with pytest.raises(TimeoutError):
        cache.read("k", fail)
    assert len(caplog.records) <= 1


def test_clock_that_goes_back_while_a_value_is_fetched_makes_no_age_below_zero() -> None:
    clock = FakeClock()
    cache: StaleCache[int] = StaleCache("c", MemoryStore(clock=clock), usable_for=60, clock=clock)
    cache.read("k", lambda: clock.advance(-5) or 1)
    assert cache.read("k", fail).age == 0


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
        ("ends", time.time() + YEAR),
    ],
)
def test_garbage_in_a_rate_file_is_counted_anew_and_refuses_nobody_for_long(
    column: str, value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit("3/hour", f"file://{tmp_path / 'r'}", key="d")
    assert (admitted(limit, 2, "a"), admitted(limit, 1, "b")) == (2, 1)
    rows(tmp_path / "r", f"UPDATE windows SET {column} = ? WHERE key LIKE '%/a/%'", value)
    assert admitted(limit, 5, "a") == 3
    assert admitted(limit, 5, "b") == 2
    other = RateLimit("3/hour", f"file://{tmp_path / 'r'}", key="d")
    assert admitted(other, 5, "a") == 0
    assert caplog.text.count("is counted anew") <= 1


def test_garbage_in_the_window_before_counts_for_nothing(tmp_path: Path) -> None:
    limit = RateLimit("3/hour", f"file://{tmp_path / 'r'}", key="d")
    admitted(limit, 1)
    now = time.time()
    rows(tmp_path / "r", "UPDATE windows SET count = 'x'")
    for window in (int(now / 3600) - 1, int(now / 3600)):
        rows(
            tmp_path / "r",
            "INSERT OR REPLACE INTO windows VALUES (?, 'x', ?)",
            f"LIMITER/d/3/1/hour/{window}",
            now + 60,
        )
    assert admitted(limit, 5) == 3


BROKEN: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"garbage" * 1000),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "zeroed inside": lambda path: path.write_bytes(path.read_bytes()[:200] + bytes(20_000)),
    "tables of somebody else": lambda path: (
        rows(path, "DROP TABLE windows"),
        rows(path, "CREATE TABLE windows (x TEXT)"),
    ),
    "a view of that name": lambda path: (
        rows(path, "DROP TABLE windows"),
        rows(path, "CREATE VIEW windows AS SELECT 'd' AS key, 'x' AS count, 'y' AS ends"),
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_file_that_is_damaged_leaves_each_process_to_keep_to_the_rate(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r"
    path.touch(mode=0o600)
    rows(path, "CREATE TABLE windows (key TEXT PRIMARY KEY, count INTEGER NOT NULL, ends REAL NOT NULL)")
    rows(path, "INSERT INTO windows VALUES (?, 1, 9e9)", "k" * 20_000)
    BROKEN[how](path)
    limit = RateLimit("3/hour", f"file://{path}", key="d")
    assert admitted(limit, 5) == 3
    assert caplog.text.count("rate limit 'd': goes on without") == 1


class Raising(MemoryStorage):
    """A storage of somebody else, which raises what it likes."""

    error: Exception = TypeError("'<' not supported between instances of 'str' and 'int'")

    def incr(self, *_: Any, **__: Any) -> int:
        raise self.error

    def acquire_entry(self, *_: Any, **__: Any) -> bool:
        raise self.error


@pytest.mark.parametrize("error", [TypeError("x"), ValueError(), KeyError("k"), ZeroDivisionError(), RecursionError()])
def test_storage_that_raises_anything_leaves_each_process_to_keep_to_the_rate(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Raising()
    storage.error = error
    limit = RateLimit("3/hour", storage, key="d")
    assert admitted(limit, 5) == 3
    assert caplog.text.count("goes on without") == 1


@pytest.mark.parametrize("kind", ["text", "hash", "entries of text"])
def test_garbage_in_a_rate_on_redis_leaves_each_process_to_keep_to_the_rate(kind: str, server: Server) -> None:
    server.client.flushall()
    limit = RateLimit("3/hour", server.url, key="d")
    assert admitted(limit, 1) == 1
    (key,) = server.client.keys("*")
    server.client.delete(key)
    if kind == "text":
        server.client.set(key, "x")
    elif kind == "hash":
        server.client.hset(key, "x", "y")
    else:
        server.client.lpush(key, *"xyz")
    assert admitted(limit, 5) == 3


@pytest.mark.parametrize("reset", [float("inf"), float("nan"), -5.0, 1e300])
def test_wait_that_a_storage_tells_is_no_longer_than_the_window(reset: float) -> None:
    class Odd(MemoryStorage):
        def get_moving_window(self, *_: Any) -> tuple[float, int]:
            return reset, 3

    assert admitted(RateLimit("1/hour", Odd(), key="d"), 3) == 1
