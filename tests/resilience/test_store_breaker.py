"""A stale cache whose store fails."""

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cb.resilience import StaleCache, StoreError
from cb.resilience.stores import MemoryStore
from cb.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def cache(store: Any, clock: FakeClock, **settings: Any) -> StaleCache[Any]:
    return StaleCache("c", store, max_stale_age=60, clock=clock, **settings)


def fail() -> int:
    raise TimeoutError


class Broken:
    """A store that fails on demand, and counts its calls."""

    def __init__(self) -> None:
        self.broken = True
        self.asked = 0
        self.store = MemoryStore()
        self.meanwhile: Callable[[], None] = lambda: None

    def _ask(self, work: Callable[..., Any], *args: Any) -> Any:
        self.asked += 1
        self.meanwhile()
        if self.broken:
            raise StoreError("place", "is away")
        return work(*args)

    def get(self, key: str) -> Any:
        return self._ask(self.store.get, key)

    def put(self, key: str, value: bytes, age: int) -> None:
        self._ask(self.store.put, key, value, age)


def test_failing_store_fails_no_call_and_is_not_called_for_a_second(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Broken()
    it = cache(store, clock, max_age=1)
    assert [it.call("k", lambda n=n: n).value for n in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(TimeoutError):
        it.call("k", fail)
    assert store.asked == 1
    clock.advance(1)
    it.call("k", int)
    assert store.asked == 2
    assert [record.message for record in caplog.records] == ["stale cache 'c': store unavailable: place: is away"]


def test_recovered_store_is_used_again_and_its_next_outage_logged(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Broken()
    it = cache(store, clock)
    for broken in (True, False, True):
        store.broken = broken
        it.call("k", int)
        clock.advance(1)
    changes = [re.findall("store (unavailable|available)", record.message) for record in caplog.records]
    assert changes == [["unavailable"], ["available"], ["unavailable"]]


def test_one_call_alone_probes_a_failing_store(clock: FakeClock) -> None:
    store = Broken()
    it = cache(store, clock)
    it.call("k", int)
    clock.advance(1)

    def others_read() -> None:
        store.meanwhile = lambda: None
        thread = threading.Thread(target=lambda: it.call("k", int))
        thread.start()
        thread.join()

    store.meanwhile = others_read
    it.call("k", int)
    assert store.asked == 2


def test_call_begun_before_an_outage_does_not_end_it(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken()
    it = cache(store, clock)

    def go_away() -> None:
        store.meanwhile, store.broken = lambda: None, True
        it.call("k", int)
        store.broken = False

    store.meanwhile, store.broken = go_away, False
    it.call("k", int)
    it.call("k", int)
    assert store.asked == 2
    assert len(caplog.records) == 1
