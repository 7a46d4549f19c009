"""Rate limits: scope, rejections, and an unavailable storage. docs/rules.md, rule 25."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from limits import parse
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from cb import CircuitBreaker, CircuitError, ConfigError
from cb.resilience import RateLimit, RateLimitedError
from cb.resilience.rate_limit_file import FileStorage
from cb.testing import workers
from tests.support.failing import cannot_start
from tests.support.redis_servers import BINARIES, Server

pytestmark = pytest.mark.quiet

HOUR = 3600


def admitted(limit: RateLimit, calls: int) -> int:
    count = 0
    for _ in range(calls):
        try:
            limit.acquire()
        except RateLimitedError:
            continue
        count += 1
    return count


@pytest.fixture(params=["memory", "file", *BINARIES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param in BINARIES:
        with Server(BINARIES[request.param], tmp_path / "server") as server:
            yield server.url
    else:
        yield f"file://{tmp_path / 'rate'}" if request.param == "file" else "memory://"


def test_calls_beyond_the_rate_are_rejected_with_retry_after(url: str) -> None:
    limit = RateLimit("3/hour", url, name="d")
    calls: list[int] = []
    for number in range(3):
        limit.call(calls.append, number)
    with pytest.raises(RateLimitedError) as refused:
        limit.call(calls.append, 3)
    assert calls == [0, 1, 2]
    assert refused.value.name == "d" and 0 < refused.value.retry_after <= HOUR
    assert isinstance(refused.value, CircuitError)
    assert str(refused.value).startswith("rate limit 'd' rejects calls for ")


def test_limits_with_different_names_are_independent(url: str) -> None:
    storage = url if url == "memory://" else RateLimit("1/hour", url, name="x") and url
    assert [admitted(RateLimit("2/hour", storage, name=key), 5) for key in ("a", "b")] == [2, 2]


def test_decorated_function_is_limited() -> None:
    @RateLimit("1/hour", name="d")
    def fetch(n: int) -> int:
        """Fetch."""
        return n

    assert (fetch(7), fetch.__doc__) == (7, "Fetch.")
    with pytest.raises(RateLimitedError):
        fetch(8)


def test_call_beyond_the_rate_does_not_reach_the_breaker() -> None:
    breaker, limit = CircuitBreaker("d"), RateLimit("1/hour", name="d")
    limit.call(breaker.call, int)
    with pytest.raises(RateLimitedError):
        limit.call(breaker.call, int)
    totals = breaker.snapshot().totals
    assert (totals.requests, totals.rejected) == (1, 0)


def test_storage_of_limits_is_accepted() -> None:
    storage = MemoryStorage()
    assert (
        admitted(RateLimit("2/hour", storage, name="d"), 5) + admitted(RateLimit("2/hour", storage, name="d"), 5) == 2
    )


@pytest.mark.parametrize(
    ("rate", "storage", "field"),
    [
        ("many", "memory://", "rate"),
        ("", "memory://", "rate"),
        ("1/fortnight", "memory://", "rate"),
        ("1/second; 10/minute", "memory://", "rate"),
        ("1/hour", "nowhere://x", "storage"),
        ("1/hour", "file://relative", "storage"),
        ("1/hour", "async+memory://", "storage"),
        ("1/hour", "redis://me:secret@host:port", "storage"),
        ("1/hour", "redis://me:secret@host?no_such_option=1", "storage"),
    ],
)
def test_invalid_rate_limit_is_a_config_error_without_a_password(rate: str, storage: str, field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RateLimit(rate, storage, name="d")
    assert refused.value.field == field and "secret" not in str(refused.value)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_unavailable_server_leaves_each_process_its_own_limit_after_one_short_wait(
    server: Server, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit("5/hour", server.url, name="d")
    assert admitted(limit, 2) == 2
    getattr(server, how)()
    try:
        begin = time.perf_counter()
        assert admitted(limit, 50) == 5
        assert time.perf_counter() - begin < 1
    finally:
        if how == "stop":
            server.resume()
    assert [record.name for record in caplog.records] == ["cb.resilience.store_breaker"]


def test_unusable_file_leaves_each_process_its_own_limit(tmp_path: Path) -> None:
    (tmp_path / "rate").mkdir()
    assert admitted(RateLimit("5/hour", f"file://{tmp_path / 'rate'}", name="d"), 50) == 5


class Clock:
    """A wall clock that starts at a full hour."""

    def __init__(self) -> None:
        self.now = 480_000 * HOUR

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(tmp_path: Path, clock: Clock) -> FileStorage:
    return FileStorage(f"file://{tmp_path / 'rate'}", clock=clock)


def test_file_storage_implements_the_interface_of_limits(storage: FileStorage, clock: Clock) -> None:
    assert isinstance(storage, Storage) and storage.check()
    assert [storage.incr("k", 60), storage.incr("k", 60, 5), storage.get("k")] == [1, 6, 6]
    assert storage.get_expiry("k") == clock.now + 60
    assert (storage.get("other"), storage.get_expiry("other")) == (0, clock.now)
    storage.clear("k")
    assert storage.get("k") == 0
    storage.incr("a", 60)
    storage.incr("b", 60)
    assert storage.reset() == 2


def test_window_in_a_file_expires(storage: FileStorage, clock: Clock) -> None:
    limiter, rate = FixedWindowRateLimiter(storage), parse("2/minute")
    assert [limiter.hit(rate, "d") for _ in range(3)] == [True, True, False]
    clock.now += 59
    assert not limiter.hit(rate, "d")
    clock.now += 1
    assert limiter.hit(rate, "d")
    assert storage.get(rate.key_for("d")) == 1


def test_sliding_window_in_a_file_weighs_the_previous_window(storage: FileStorage, clock: Clock) -> None:
    limiter, rate = SlidingWindowCounterRateLimiter(storage), parse("10/hour")
    assert sum(limiter.hit(rate, "d") for _ in range(20)) == 10
    clock.now += HOUR + HOUR // 2  # half of the previous window still counts
    assert sum(limiter.hit(rate, "d") for _ in range(20)) == 5
    clock.now += 2 * HOUR
    assert sum(limiter.hit(rate, "d") for _ in range(20)) == 10
    limiter.clear(rate, "d")
    assert limiter.hit(rate, "d")


def test_call_rejected_by_a_sliding_window_is_not_counted(storage: FileStorage) -> None:
    limiter, rate = SlidingWindowCounterRateLimiter(storage), parse("10/hour")
    assert limiter.hit(rate, "d", cost=8)
    assert not limiter.hit(rate, "d", cost=3)
    assert limiter.hit(rate, "d", cost=2)


def test_expired_windows_leave_no_row(storage: FileStorage, clock: Clock) -> None:
    for number in range(50):
        storage.incr(f"k{number}", 1)
        clock.now += 2
    assert storage.reset() == 1


_limit: list[RateLimit] = []


def _make(url: str, rate: str) -> None:
    _limit[:] = [RateLimit(rate, url, name="d")]


def _hammer(threads: int, calls: int) -> int:
    counts: list[int] = []
    running = [threading.Thread(target=lambda: counts.append(admitted(_limit[0], calls))) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts)


@pytest.mark.parametrize("kind", ["file", "valkey"])
def test_processes_and_their_threads_together_keep_to_the_rate(kind: str, tmp_path: Path) -> None:
    with Server(BINARIES["valkey"], tmp_path / "server") as server, workers(3) as processes:
        for process in processes:
            process.call(_make, server.url if kind == "valkey" else f"file://{tmp_path / 'rate'}", "200/day")
        with ThreadPoolExecutor(3) as pool:
            assert sum(pool.map(lambda process: process.call(_hammer, 4, 50), processes)) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_limit_used_before_a_fork_works_in_the_child(kind: str, tmp_path: Path) -> None:
    limit = RateLimit("3/day", f"file://{tmp_path / 'rate'}" if kind == "file" else "memory://", name="d")
    limit.acquire()
    pid = os.fork()
    if not pid:
        os._exit(admitted(limit, 9))
    in_child = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert (in_child, admitted(limit, 9)) == ((2, 0) if kind == "file" else (3, 2))


def test_thread_that_cannot_be_started_rejects_no_call_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit = RateLimit("2/hour", name="k")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot_start)  # the storage in memory needs a thread
        for _ in range(5):
            limit.acquire()
    assert len(caplog.records) == 1

    for _ in range(2):
        limit.acquire()
    with pytest.raises(RateLimitedError):
        limit.acquire()
