"""Stores of the stale cache: their common behaviour, and that of Redis."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cb.resilience import StaleCache, StoreError, open_store
from cb.resilience.stores import MemoryStore, Store
from cb.testing import workers
from tests.support.redis_servers import BINARIES, Server

SECOND = 1_000_000_000


@pytest.fixture(params=["memory", "file", *BINARIES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return a store of each kind, with room for three entries."""
    if request.param in BINARIES:
        with Server(BINARIES[request.param], tmp_path / "server") as server:
            yield open_store(server.url, max_entries=3)
    else:
        yield open_store(f"file://{tmp_path / 'c'}" if request.param == "file" else "memory://", max_entries=3)


def value_of(store: Store, key: str) -> bytes | None:
    found = store.get(key)
    return found and found[0]


def test_value_is_returned_unchanged_with_its_age(store: Store) -> None:
    store.put("k", bytes(range(256)), 5 * SECOND)
    found = store.get("k")
    assert found and found[0] == bytes(range(256))
    assert 5 * SECOND <= found[1] < 6 * SECOND


def test_key_may_be_any_text(store: Store) -> None:
    for key in ("", "a/b ü'\"\x00", "k" * 1000):
        store.put(key, b"v", 0)
        assert value_of(store, key) == b"v"


def test_unknown_key_is_none(store: Store) -> None:
    store.put("k", b"v", 0)
    assert store.get("other") is None


def test_later_value_replaces_an_earlier_one(store: Store) -> None:
    store.put("k", b"old", 5 * SECOND)
    store.put("k", b"new", 4 * SECOND)
    assert value_of(store, "k") == b"new"


def test_value_of_an_earlier_request_replaces_nothing(store: Store) -> None:
    store.put("k", b"new", 4 * SECOND)
    store.put("k", b"old", 5 * SECOND)
    assert value_of(store, "k") == b"new"


def test_oldest_entries_are_removed_beyond_max_entries(store: Store) -> None:
    for age, key in ((9, "a"), (8, "b"), (7, "c"), (6, "d")):
        store.put(key, b"v", age * SECOND)
    store.put("b", b"v", 5 * SECOND)
    store.put("e", b"v", 4 * SECOND)
    assert [key for key in "abcde" if store.get(key)] == ["b", "d", "e"]


def test_stores_in_memory_share_nothing() -> None:
    one, other = open_store("memory://"), open_store("memory://")
    one.put("k", b"v", 0)
    assert other.get("k") is None


def test_hosts_with_the_same_server_share_values(server: Server) -> None:
    one, other = open_store(server.url), open_store(server.url)
    one.put("k", b"v", 0)
    assert value_of(other, "k") == b"v"
    assert open_store(server.url, name="other").get("k") is None


def test_value_from_the_future_of_a_server_is_missing_and_replaceable(server: Server) -> None:
    store = open_store(server.url, max_entries=2)
    future = time.time_ns() // 1000 + 3_600_000_000
    for key in ("k", "other"):
        store.put(key, b"before", 0)
    server.client.zadd("cb:stale:{stale}:times", {"k": future, "other": future})
    assert store.get("k") is None
    store.put("k", b"after", SECOND)
    assert value_of(store, "k") == b"after"
    assert server.client.hkeys("cb:stale:{stale}:values") == ["k"]


def test_unused_cache_expires_on_the_server(server: Server) -> None:
    open_store(server.url).put("k", b"v", 0)
    assert {86_300 < server.client.ttl(key) <= 86_400 for key in server.client.keys("*")} == {True}


def test_emptied_server_is_filled_again(server: Server) -> None:
    store = open_store(server.url)
    store.put("k", b"v", 0)
    server.restart_empty()
    with suppress(StoreError):  # on the earlier connection
        store.get("k")
    assert store.get("k") is None
    store.put("k", b"v", 0)
    assert value_of(store, "k") == b"v"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_unavailable_server_costs_one_short_wait_per_second(server: Server, how: str) -> None:
    cache: StaleCache[int] = StaleCache("c", open_store(server.url), max_stale_age=60)
    cache.call("k", int)
    getattr(server, how)()
    try:
        begin = time.perf_counter()
        assert [cache.call("k", int).value for _ in range(100)] == [0] * 100
        assert time.perf_counter() - begin < 0.2
    finally:
        if how == "stop":
            server.resume()


def test_error_names_the_server_and_no_password() -> None:
    store = open_store("redis://me:secret@127.0.0.1:1/0")
    with pytest.raises(StoreError) as refused:
        store.get("k")
    assert str(refused.value).startswith("redis://127.0.0.1:1/0: ")
    assert "secret" not in str(refused.value)


_store: list[Any] = []


def _open(url: str) -> None:
    _store[:] = [open_store(url)]


def _put(key: str, value: bytes, age: int) -> None:
    _store[0].put(key, value, age)


def _get(key: str) -> Any:
    return _store[0].get(key)


@pytest.mark.parametrize("kind", ["file", "valkey"])
def test_process_reads_the_value_of_another(kind: str, tmp_path: Path) -> None:
    with Server(BINARIES["valkey"], tmp_path / "server") as server, workers(2) as (one, other):
        for worker in (one, other):
            worker.call(_open, server.url if kind == "valkey" else f"file://{tmp_path / 'c'}")
        one.call(_put, "k", b"new", SECOND)
        other.call(_put, "k", b"old", 3 * SECOND)
        for worker in (one, other):
            value, age = worker.call(_get, "k")
            assert (value, SECOND <= age < 3 * SECOND) == (b"new", True)


def test_memory_store_keeps_the_newest_entries() -> None:
    store = MemoryStore(max_entries=2)
    for number in range(100):
        store.put(str(number), b"v", 0)
    assert [key for key in map(str, range(100)) if store.get(key)] == ["98", "99"]
