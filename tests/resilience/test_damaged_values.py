"""Invalid data in a store: it is not returned, fails no call, and is logged once."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cb.resilience import StaleCache, open_store
from cb.resilience.stores import MemoryStore
from cb.testing import FakeClock
from tests.support.redis_servers import Server

VALUES, TIMES = "cb:stale:{stale}:values", "cb:stale:{stale}:times"


def write(path: Path, query: str, *values: Any) -> None:
    """Write into a database, as another program would."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(query, values)
    connection.close()


def fail() -> Any:
    raise TimeoutError


def filled(url: str) -> StaleCache[Any]:
    """Return a cache with values for two keys."""
    cache: StaleCache[Any] = StaleCache("c", open_store(url), max_stale_age=60)
    for key in ("k", "other"):
        cache.call(key, lambda key=key: {"price": key})
    return cache


def serves_only_the_other(cache: StaleCache[Any]) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            cache.call("k", fail)
    assert cache.call("other", fail).value == {"price": "other"}
    assert cache.call("k", lambda: 1).value == 1
    assert cache.call("k", fail).value == 1


#: the checksum belongs to another value
SEALED = b"cb1\x00\x00\x00\x00"
FOREIGN = [b"", b"1", b'{"price": "1"}', b"\x80\x04K\x01.", b"\xff\xfe", b"cb1", SEALED, SEALED + b'"x"', b"x" * 2**20]


@pytest.mark.parametrize("value", FOREIGN)
def test_changed_value_in_redis_is_not_returned(
    value: bytes, emptied: Server, caplog: pytest.LogCaptureFixture
) -> None:
    cache = filled(emptied.url)
    emptied.raw.hset(VALUES, "c/k", value)
    serves_only_the_other(cache)
    assert caplog.text.count("the stored value of 'k' cannot be read") == 1


@pytest.mark.parametrize("since", [float("-inf"), -1e300, -1e17, 0, 1, float("inf"), 1e300])
def test_value_in_redis_with_an_invalid_time_is_not_returned(since: float, emptied: Server) -> None:
    cache = filled(emptied.url)
    emptied.client.zadd(TIMES, {"c/k": since})
    serves_only_the_other(cache)


@pytest.mark.parametrize("cut", [1, 3, 8, 14])
def test_truncated_value_is_not_returned(cut: int, emptied: Server) -> None:
    cache, raw = filled(emptied.url), emptied.raw
    cache.call("k", lambda: 12345678901234)  # still a number without its last digits
    kept = raw.hget(VALUES, "c/k")
    assert isinstance(kept, bytes)
    raw.hset(VALUES, "c/k", kept[:-cut])
    serves_only_the_other(cache)


def test_value_moved_to_another_key_is_not_returned(emptied: Server) -> None:
    cache, raw = filled(emptied.url), emptied.raw
    raw.hset(VALUES, "c/k", raw.hget(VALUES, "c/other") or b"")  # type: ignore[arg-type]  # no coroutine
    serves_only_the_other(cache)


@pytest.mark.parametrize("key", [VALUES, TIMES])
@pytest.mark.parametrize("kind", ["text", "list"])
def test_key_in_redis_of_another_type_disables_the_cache(
    key: str, kind: str, emptied: Server, caplog: pytest.LogCaptureFixture
) -> None:
    cache = filled(emptied.url)
    emptied.client.delete(key)
    if kind == "text":
        emptied.client.set(key, "garbage")
    else:
        emptied.client.lpush(key, "garbage")
    assert [cache.call("k", lambda n=n: n).value for n in range(3)] == [0, 1, 2]
    with pytest.raises(TimeoutError):
        cache.call("k", fail)
    assert caplog.text.count("store unavailable") == 1


def test_url_with_decode_responses_still_stores_bytes(emptied: Server) -> None:
    store = open_store(f"{emptied.url}?decode_responses=true")
    store.put("k", bytes(range(256)), 0)
    assert (found := store.get("k")) and found[0] == bytes(range(256))


@pytest.mark.parametrize("value", [*FOREIGN, "text", 5, 1.5])
def test_changed_value_in_a_file_is_not_returned(value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = filled(f"file://{tmp_path / 'c'}")
    write(tmp_path / "c", "UPDATE kept SET value = ? WHERE key = 'c/k'", value)
    serves_only_the_other(cache)
    assert caplog.text.count("the stored value of 'k' cannot be read") == 1


@pytest.mark.parametrize("since", ["text", b"\xff", -1, -(2**62), 2**62, 1.5, float("inf"), float("-inf"), 0])
def test_value_in_a_file_with_an_invalid_time_is_not_returned(since: Any, tmp_path: Path) -> None:
    cache = filled(f"file://{tmp_path / 'c'}")
    write(tmp_path / "c", "UPDATE kept SET since = ? WHERE key = 'c/k'", since)
    serves_only_the_other(cache)


class Odd(MemoryStore):
    """A store that returns any value."""

    found: Any = None

    def get(self, key: str) -> Any:  # noqa: ARG002 - of the protocol
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
def test_invalid_result_of_a_store_is_a_missing_value(found: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = Odd()
    cache: StaleCache[Any] = StaleCache("c", store, max_stale_age=60, max_age=60)
    store.found = found
    for number in range(3):
        assert cache.call("k", lambda number=number: number) == cache.call("x", lambda number=number: number)
    with pytest.raises(TimeoutError):
        cache.call("k", fail)
    assert len(caplog.records) <= 1


def test_clock_set_back_during_a_fetch_gives_no_negative_age() -> None:
    clock = FakeClock()
    cache: StaleCache[int] = StaleCache("c", MemoryStore(clock=clock), max_stale_age=60, clock=clock)
    cache.call("k", lambda: clock.advance(-5) or 1)
    assert cache.call("k", fail).age == 0
