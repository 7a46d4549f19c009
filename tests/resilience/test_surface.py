"""The public names of `cb.resilience`: imports, `close`, `repr` and pickles."""

import os
import pickle
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from limits.storage import MemoryStorage

import cb.resilience
from cb import RejectedError
from cb.resilience import (
    RateLimit,
    RetryBudget,
    RetryBudgetExhaustedError,
    StaleCache,
    Store,
    StoreError,
    open_store,
    retrying,
)
from cb.testing import FakeClock
from tests.support import ROOT
from tests.support.redis_servers import Server


def descriptors(path: Path) -> int:
    """Return the number of open descriptors of a file."""
    return sum(os.path.realpath(each) == str(path) for each in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("name", cb.resilience.__all__)
def test_name_of_the_package_can_be_imported_from_it(name: str) -> None:
    assert getattr(cb.resilience, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        cb.resilience.Unknown  # noqa: B018 - the access is what raises


def test_closed_store_in_a_file_opens_it_again_when_it_is_used(tmp_path: Path) -> None:
    with open_store(f"file://{tmp_path / 'c'}") as store:
        store.put("k", b"v", 0)
        assert descriptors(tmp_path / "c") == 1
    assert descriptors(tmp_path / "c") == 0
    found = store.get("k")
    assert found and found[0] == b"v"


def test_closed_store_in_a_server_connects_again_when_it_is_used(emptied: Server) -> None:
    def connected() -> int:
        return int(emptied.client.info("clients")["connected_clients"])

    before = connected()
    with open_store(emptied.url) as store:
        store.put("k", b"v", 0)
        assert connected() == before + 1
    end = time.monotonic() + 10
    while connected() > before:  # the server notices a moment later
        assert time.monotonic() < end
    found = store.get("k")
    assert found and found[0] == b"v"
    store.close()


def test_cache_closes_the_store_that_it_has_opened_and_no_other() -> None:
    store = open_store("memory://")
    with StaleCache[int]("given", store, max_stale_age=60) as given:
        given.call("k", lambda: 1)
    with StaleCache[int]("opened", "memory://", max_stale_age=timedelta(minutes=1)) as opened:
        opened.call("k", lambda: 2)

    def fail() -> int:
        raise ConnectionError

    assert given.call("k", fail).value == 1
    with pytest.raises(ConnectionError):
        opened.call("k", fail)


def test_store_of_a_subclass_needs_no_close_of_its_own() -> None:
    class Forgetful(Store):
        def get(self, key: str) -> None:  # noqa: ARG002 - of the protocol
            return None

        def put(self, key: str, value: bytes, age: int) -> None:
            pass

    with Forgetful() as store, StaleCache[int]("c", store, max_stale_age=60) as cache:
        assert cache.call("k", lambda: 1).value == 1


def test_rate_limit_closes_the_file_that_its_url_names_and_counts_on_when_it_is_used_again(tmp_path: Path) -> None:
    with RateLimit("2/hour", f"file://{tmp_path / 'rates'}", name="d") as limit:
        limit.acquire()
        assert descriptors(tmp_path / "rates") == 1
    assert descriptors(tmp_path / "rates") == 0
    limit.acquire()
    with pytest.raises(RejectedError):
        limit.acquire()


def test_rate_limit_leaves_a_storage_of_the_caller_open() -> None:
    class Closable(MemoryStorage):
        closed = False

        def close(self) -> None:
            self.closed = True

    storage = Closable()
    RateLimit("2/hour", storage, name="d").close()
    assert not storage.closed


def test_exhausted_budget_raises_the_time_until_the_next_retry() -> None:
    clock = FakeClock()
    budget = RetryBudget(0.1, min_per_second=0.5, name="vendor", clock=clock)
    clock.advance(1)
    budget.acquire()
    with pytest.raises(RetryBudgetExhaustedError) as caught:
        budget.acquire()
    assert (caught.value.name, caught.value.retry_after) == ("vendor", 2.0)
    arrived = pickle.loads(pickle.dumps(caught.value))
    assert (arrived.name, arrived.retry_after, str(arrived)) == ("vendor", 2.0, str(caught.value))


def test_exhausted_budget_without_a_rate_has_no_retry_after() -> None:
    with pytest.raises(RetryBudgetExhaustedError) as caught:
        RetryBudget(min_per_second=0).acquire()
    assert caught.value.retry_after is None


def test_retries_take_timedelta_for_their_waits() -> None:
    waits: list[float] = []
    policy = retrying(
        OSError,
        wait_initial=timedelta(milliseconds=500),
        wait_max=timedelta(seconds=0.75),
        sleep=waits.append,
        uniform=lambda _, longest: longest,
    )

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError):
        policy(fail)
    assert waits == [0.5, 0.75]


def test_repr_shows_name_and_location(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    assert repr(open_store("redis://me:secret@127.0.0.1:1/0")) == "<RedisStore 'redis://127.0.0.1:1/0'>"
    assert repr(open_store(f"file://{path}")) == f"<FileStore {path!r}>"
    cache: StaleCache[int] = StaleCache("prices", "memory://", max_stale_age=60)
    assert repr(cache) == "<StaleCache 'prices', max_stale_age 60 s, in <MemoryStore 0 of 1000 entries>>"
    assert repr(RateLimit("100/second", name="vendor")) == "<RateLimit 'vendor' 100 per 1 second>"
    assert repr(RetryBudget(name="vendor", clock=FakeClock())) == "<RetryBudget 'vendor' 1 of 10 retries available>"


def test_store_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(StoreError("/file", "is full")))
    assert (error.location, error.reason, str(error)) == ("/file", "is full", "/file: is full")


def test_package_is_imported_without_its_extras() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import cb.resilience as r; r.open_store('memory://')"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", program], check=False).returncode == 0
