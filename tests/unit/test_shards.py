"""Shards that are given up, and processes that have none and still count. docs/rules.md, rules 3, 12 and 23."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cb import (
    BreakerConfig,
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    Event,
    Ledger,
    LedgerDegraded,
    LedgerRestored,
    Monitor,
    State,
)
from cb.integrations.prometheus import BreakerCollector
from cb.ledger import host_counters
from cb.ledger import layout as at
from cb.ledger.locks import LockFile, claim
from cb.ledger.shards import RESERVED_SHARDS
from cb.registry import Registry
from cb.testing import FakeClock
from tests.support.failing import fail
from tests.unit.conftest import Dependency

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has memory:// only")
CONFIG = BreakerConfig(
    failure_threshold=3,
    failure_rate_threshold=None,
    slow_call_rate_threshold=None,
    max_requests=2,
    success_threshold=2,
    timeout=10,
    timeout_jitter=0,
)
MOST = (at.SHARDS - RESERVED_SHARDS) * at.STRIPES  # stripes that one process may have

Process = Callable[..., CircuitBreaker]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def process(tmp_path: Path, clock: FakeClock) -> Iterator[Process]:
    """Yield a function that creates a breaker like another process: its locks exclude those of the others."""
    ledgers = []

    def make(name: str = "d", ledger: Ledger | None = None, listener: Callable[[Event], object] = id) -> CircuitBreaker:
        ledger = ledger or Ledger.in_file(tmp_path / "l")
        ledgers.append(ledger)
        return CircuitBreaker(name, CONFIG, ledger=ledger, clock=clock, listeners=[listener])

    yield make
    for ledger in ledgers:
        ledger.core.reset_after_fork()  # closes the files of its locks


@pytest.fixture
def taken(tmp_path: Path, process: Process) -> Iterator[list[LockFile]]:
    """Yield the locks of all shards of the ledger: no process can get one."""
    process()
    held = [claim(f"{tmp_path}/l.locks/{shard}") for shard in range(at.SHARDS)]
    owned = [file for file in held if file is not None]
    yield owned
    for file in owned:
        file.close()


def owners(breaker: CircuitBreaker) -> int:
    return at.SHARDS - breaker.ledger.core.header[at.H_SHARD_OWNERS : at.H_SHARD_OWNERS + at.SHARDS].tolist().count(0)


def test_process_with_very_many_concurrent_calls_leaves_shards_for_others(process: Process) -> None:
    busy, others = process(), [process() for _ in range(RESERVED_SHARDS)]
    with ExitStack() as running:
        for _ in range(400):
            running.enter_context(busy.guard())
        assert busy.snapshot().in_flight == MOST - 1  # one stripe is reserved for calls that find no other
        for other in others:
            running.enter_context(other.guard())
        assert busy.snapshot().in_flight == MOST - 1 + RESERVED_SHARDS
        assert {other.ledger.degraded for other in others} == {None}
    assert busy.snapshot().totals.successes == 400 + RESERVED_SHARDS


def test_idle_shards_are_given_up_and_their_counts_stay(process: Process, clock: FakeClock) -> None:
    breaker = process()
    with ExitStack() as running:
        for _ in range(100):
            running.enter_context(breaker.guard())
        breaker.control.evaluate()
        assert owners(breaker) == 17
    for _ in range(5):
        breaker.control.evaluate()
        clock.advance(1)
    assert owners(breaker) == 1
    assert breaker.snapshot().totals.successes == 100
    other = process("other")
    with other:
        assert owners(breaker) == 2
    with ExitStack() as running:
        for _ in range(100):
            running.enter_context(breaker.guard())
    assert breaker.snapshot().totals.successes == 200


def test_shard_with_a_running_call_is_kept_and_counts_its_end(process: Process, clock: FakeClock) -> None:
    breaker, other = process(), process("other")
    with ExitStack() as late:
        with ExitStack() as running:
            for number in range(30):
                (late if number == 17 else running).enter_context(breaker.guard())
        for _ in range(5):
            breaker.control.evaluate()
            clock.advance(1)
        assert owners(breaker) == 2
        with other:
            assert breaker.snapshot().in_flight == 1
    assert breaker.snapshot().totals.successes == 30
    assert breaker.snapshot().in_flight == 0


def test_shard_of_two_breakers_is_kept_until_it_is_idle_in_both(process: Process, clock: FakeClock) -> None:
    one = process("one")
    two = process("two", one.ledger)
    with ExitStack() as first, ExitStack() as second:
        for _ in range(10):
            first.enter_context(one.guard())
            second.enter_context(two.guard())
        first.close()
        for _ in range(5):
            one.control.evaluate()
            two.control.evaluate()
            clock.advance(1)
        assert owners(one) == 2
        second.close()
        for _ in range(5):
            two.control.evaluate()
            clock.advance(1)
        assert owners(one) == 1


def test_failures_of_a_process_without_a_shard_open_the_circuit_for_all(
    process: Process, taken: list[LockFile]
) -> None:
    one, other = process(), process()
    fail(one, 2)
    other.call(int)
    fail(other)
    fail(one)
    assert one.state is State.CLOSED  # a success interrupted the streak
    fail(other)
    assert one.state is other.state is State.OPEN
    totals = one.snapshot().totals
    assert (totals.successes, totals.failures) == (1, 5)
    assert one.snapshot().last_failure is not None
    assert len(taken) == at.SHARDS


@pytest.mark.usefixtures("taken")
def test_processes_without_a_shard_keep_to_the_permits_of_a_round_and_close_the_circuit(
    process: Process, clock: FakeClock
) -> None:
    one, other = process(), process()
    fail(one, 3)
    clock.advance(10)
    probes = [breaker.begin() for breaker in (one, other)]
    for breaker in (one, other):
        with pytest.raises(CircuitOpenError):
            breaker.call(pytest.fail, "a third probe")
    for probe in probes:
        probe.succeed()
    assert one.state is other.state is State.CLOSED
    totals = one.snapshot().totals
    assert (totals.successes, totals.failures, totals.rejected, totals.late) == (2, 3, 2, 0)


@pytest.mark.usefixtures("taken")
def test_failed_or_interrupted_probe_of_a_process_without_a_shard_decides_like_any_other(
    process: Process, clock: FakeClock
) -> None:
    breaker = process()
    fail(breaker, 3)
    clock.advance(10)
    with suppress(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt
    assert breaker.state is State.HALF_OPEN
    breaker.call(int)
    breaker.call(int)
    assert breaker.state is State.CLOSED
    fail(breaker, 3)
    clock.advance(10)
    fail(breaker)
    assert breaker.state is State.OPEN


@pytest.mark.usefixtures("taken")
def test_process_without_a_shard_has_bulkheads_and_health_checks_like_any_other(
    process: Process, clock: FakeClock
) -> None:
    breaker = process()
    with Bulkhead(breaker, 1), pytest.raises(BulkheadFullError):
        Bulkhead(process(), 1).call(int)
    assert breaker.snapshot().totals.full == 1
    fail(breaker, 3)
    monitor = Monitor(clock=clock)
    monitor.add(breaker, bool)
    clock.advance(10)
    monitor.turn()
    assert breaker.state is State.CLOSED


def test_process_without_a_shard_reports_it_once_and_the_end_of_it_once(
    process: Process, taken: list[LockFile], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    breaker = process(listener=events.append)
    for _ in range(3):
        breaker.call(int)
        breaker.control.evaluate()
        clock.advance(2)
    assert [type(event) for event in events] == [LedgerDegraded]
    assert "all 63 shards are taken" in (breaker.ledger.degraded or "")
    assert len(caplog.records) == 1

    while taken:
        taken.pop().close()
    clock.advance(2)
    breaker.control.evaluate()
    assert breaker.ledger.degraded is None
    assert [type(event) for event in events] == [LedgerDegraded, LedgerRestored]
    assert [record.getMessage() for record in caplog.records[1:]] == ["breakers are shared between processes again"]
    with breaker:
        assert breaker.snapshot().in_flight == 1
    assert breaker.snapshot().totals.successes == 4


@pytest.mark.usefixtures("taken")
def test_metric_of_any_process_shows_that_another_one_has_no_shard(tmp_path: Path) -> None:
    registry = Registry(ledger=Ledger.in_file(tmp_path / "l"))
    assert "circuit_breaker_ledger_degraded 0.0" in BreakerCollector(registry).text()
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    breaker.call(int)
    breaker.control.evaluate()
    assert "circuit_breaker_ledger_degraded 1.0" in BreakerCollector(registry).text()


@pytest.mark.usefixtures("taken")
def test_process_without_shard_and_host_counters_counts_for_itself_and_reports_it(
    tmp_path: Path, process: Process, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_counters, "_DEGRADED_AFTER_SECONDS", 0)
    monkeypatch.setattr(host_counters, "_RESTORED_AFTER_SECONDS", 0)
    holder = claim(f"{tmp_path}/l.locks/host-counters")  # as a process that was stopped while it held the lock
    breaker, other = process(), process()
    fail(breaker, 2)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is other.state is State.OPEN
    breaker.control.evaluate()
    assert "not counted for others" in (breaker.ledger.degraded or "")
    assert breaker.snapshot().totals.failures == 0
    clock.advance(10)
    breaker.call(int)
    breaker.call(int)
    assert other.state is State.CLOSED
    breaker.call(int)
    assert holder is not None
    holder.close()
    breaker.control.evaluate()
    assert "not counted for others" not in (breaker.ledger.degraded or "")
    totals = other.snapshot().totals
    # Its counts are added, but outcomes of earlier generations decide nothing.
    assert (totals.successes, totals.failures, totals.late) == (1, 0, 5)


@pytest.mark.usefixtures("taken")
def test_long_call_of_a_process_without_a_shard_counts_in_the_window_at_its_end(
    process: Process, clock: FakeClock
) -> None:
    breaker = process()
    call = breaker.begin()
    clock.advance(50)
    call.succeed()
    clock.advance(30)
    assert breaker.snapshot().window.requests == 1


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize("end", ["close", "exit"])
def test_process_without_a_shard_that_ends_while_another_is_stopped_with_the_lock_waits_and_adds_its_counts(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    holder = claim(f"{tmp_path}/l.locks/host-counters")
    assert holder is not None
    breaker, other = process(), process()
    breaker.call(int)
    assert other.snapshot().totals.successes == 0
    waits: list[float] = []

    def go_on(seconds: float) -> None:  # the stopped process goes on
        waits.append(seconds)
        holder.close()

    monkeypatch.setattr("cb.ledger.locks.time.sleep", go_on)
    breaker.ledger.close() if end == "close" else host_counters._add_all()  # noqa: SLF001 - called at exit
    assert other.snapshot().totals.successes == len(waits) == 1


@pytest.mark.usefixtures("taken")
def test_process_without_a_shard_that_ends_while_another_keeps_the_lock_waits_no_longer_than_agreed(
    tmp_path: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_counters, "LAST_LOCK_TIMEOUT_SECONDS", 0.01)
    holder = claim(f"{tmp_path}/l.locks/host-counters")
    assert holder is not None
    breaker, other = process(), process()
    breaker.call(int)
    breaker.ledger.close()
    breaker.ledger.close()
    assert other.snapshot().totals.successes == 0
    holder.close()


def test_process_without_descriptors_counts_in_the_host_counters(process: Process, clock: FakeClock) -> None:
    breaker = process()
    breaker.ledger.core.host_counters_lock.run(
        bool, 1
    )  # opens the lock file, as in a process that has had no shard before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno(), hard))
    try:
        with pytest.raises(OSError, check=lambda error: error.errno == errno.EMFILE):
            os.open(os.devnull, os.O_RDONLY)
        fail(breaker, 3)
        assert breaker.state is State.OPEN
        breaker.control.evaluate()
        assert "Too many open files" in (breaker.ledger.degraded or "")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    clock.advance(10)
    breaker.control.evaluate()
    assert breaker.ledger.degraded is None
    assert breaker.snapshot().totals.failures == 3


def test_process_without_a_shard_is_a_probe_and_has_its_own_shard_when_one_is_free(
    process: Process, taken: list[LockFile], clock: FakeClock
) -> None:
    breaker = process()
    breaker.control.force_open(reason="test", duration=1)
    clock.advance(1)
    for _ in range(breaker.config.success_threshold):
        assert breaker.call(int) == 0
    assert breaker.state is State.CLOSED
    while taken:
        taken.pop().close()
    clock.advance(1)
    with breaker:
        assert breaker.snapshot().in_flight == 1


def test_calls_beyond_the_counters_of_the_host_are_counted_and_probe_like_any_other(
    make: Callable[..., Dependency],
) -> None:
    dependency = make(
        failure_threshold=1, slow_call_rate_threshold=None, timeout="1s", max_requests=1, success_threshold=1
    )
    dependency.answer()
    with ExitStack() as running:
        for _ in range(at.SHARDS * at.STRIPES):  # more than there are: one stripe is kept for all that find none
            running.enter_context(dependency.breaker)
        blocks = at.SHARDS - RESERVED_SHARDS if dependency.breaker.ledger.scope == "host" else at.SHARDS
        assert dependency.breaker.snapshot().in_flight == blocks * at.STRIPES - 1
        dependency.fail(KeyboardInterrupt())
        dependency.answer(seconds=2)
        dependency.fail()
        with pytest.raises(CircuitOpenError):
            dependency.answer()
        dependency.clock.advance(1)
        dependency.answer()
        assert dependency.breaker.state is State.CLOSED
    totals = dependency.breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.slow) == (3, 1, 1)
    assert (totals.neutral, totals.rejected, totals.late) == (1, 1, at.SHARDS * at.STRIPES)
