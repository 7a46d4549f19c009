"""Breakers without room in their ledger: guarded by the process, shared later. docs/rules.md, rule 23."""

import gc
import os
from contextlib import suppress
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
    Registry,
    State,
)
from cb import registry as registries
from cb.breaker import admission_of
from cb.integrations.prometheus import BreakerCollector
from cb.ledger import layout as at
from cb.ledger.locks import claim
from cb.testing import FakeClock
from tests.support.failing import fail

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has memory:// only")
ONE = BreakerConfig(failure_threshold=1, timeout=10, timeout_jitter=0, max_requests=1, success_threshold=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def full(tmp_path: Path, clock: FakeClock) -> Ledger:
    """Return a ledger without room for another breaker."""
    ledger = Ledger.in_file(tmp_path / "l")
    for number in range(at.MAX_RECORDS):
        ledger.core.record(f"d{number}", clock())
    return ledger


def test_breaker_without_room_in_the_ledger_guards_its_process_and_reports_it_once(
    full: Ledger, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    registry = Registry(ledger=full, defaults=ONE, listeners=[events.append], clock=clock)
    breaker, another = registry.get("more"), registry.get("yet more")
    for _ in range(2):
        breaker.control.evaluate()
        another.control.evaluate()
        clock.advance(5)
    assert "holds 1024 breakers, no room for 'more'" in (full.degraded or "")
    assert [event.name for event in events if isinstance(event, LedgerDegraded)] == ["more", "yet more"]
    assert len(caplog.records) == 1
    assert "circuit_breaker_ledger_degraded 1.0" in BreakerCollector(registry).text()

    fail(breaker)
    with pytest.raises(CircuitOpenError):
        breaker.call(int)
    clock.advance(10)
    breaker.call(int)
    assert breaker.state is State.CLOSED
    assert breaker.snapshot().source == "process"
    assert another.snapshot().totals.requests == 0


def test_breakers_of_one_name_that_the_ledger_cannot_hold_are_one_breaker(full: Ledger, clock: FakeClock) -> None:
    one, again = (CircuitBreaker("more", ONE, ledger=full, clock=clock) for _ in range(2))
    fail(one)
    assert again.state is State.OPEN
    with pytest.raises(BulkheadFullError):
        again.control.reset(reason="test")
        with Bulkhead(one, 1):
            Bulkhead(again, 1).call(int)


def test_registry_keeps_a_bounded_number_of_breakers_that_the_ledger_cannot_hold(
    full: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "MOST_APART", 20)
    registry = Registry(ledger=full, defaults=ONE, clock=clock)
    fail(registry.get("fails"))
    held = registry.get("held")
    for number in range(500):
        registry.get(f"http://10.0.{number}.1:80").call(int)
        clock.advance(120)
    del number
    gc.collect()
    assert len(list(registry)) == 20
    assert len(list(registry.stats())) == at.MAX_RECORDS + 20
    assert registry.get("fails").state is State.OPEN  # open breakers are forgotten last
    assert registry.get("held") is held  # there are never two breakers of one name


def test_breaker_created_while_the_lock_is_busy_moves_to_the_ledger_later(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    ledger = Ledger.in_file(tmp_path / "l")
    holder = claim(f"{tmp_path}/l.locks/transitions")
    assert holder is not None
    breaker = CircuitBreaker("d", ONE, ledger=ledger, clock=clock, listeners=[events.append])
    call = breaker(divmod)  # guarded before the move
    bulkhead = Bulkhead(breaker, 1)
    with suppress(ZeroDivisionError):
        call(1, 0)
    assert breaker.state is State.OPEN
    breaker.control.evaluate()
    assert (ledger.names(), admission_of(breaker).circuit.apart) == ([], True)

    holder.close()
    clock.advance(1)
    breaker.control.evaluate()
    assert (ledger.names(), admission_of(breaker).circuit.apart, ledger.degraded) == (["d"], False, None)
    assert [type(event) for event in events if not hasattr(event, "before")] == [LedgerDegraded, LedgerRestored]
    assert len([record for record in caplog.records if record.name != "cb.circuits"]) == 2

    other = CircuitBreaker("d", ONE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    assert call(4, 2) == (2, 0)
    assert breaker.state is State.CLOSED  # its state in this process is not kept
    assert other.snapshot().totals.successes == 1
    with bulkhead, pytest.raises(BulkheadFullError):
        Bulkhead(other, 1).call(int)
    with suppress(ZeroDivisionError):
        call(1, 0)
    assert other.state is State.OPEN
    with pytest.raises(CircuitOpenError):
        call(4, 2)
    clock.advance(10)
    assert call(4, 2) == (2, 0)
    assert other.state is State.CLOSED


def test_call_that_runs_while_its_breaker_moves_to_the_ledger_ends_normally(tmp_path: Path, clock: FakeClock) -> None:
    holder = claim(f"{tmp_path}/l")  # a lock file where the ledger should be
    assert holder is not None
    os.write(holder.fileno(), b"not a ledger")
    breaker = CircuitBreaker("d", ONE, ledger=Ledger.open(f"file://{tmp_path}/l"), clock=clock)
    bulkhead = Bulkhead(breaker, 1)

    def go_over() -> str:
        (tmp_path / "l").unlink()
        clock.advance(5)
        breaker.control.evaluate()
        return "answer"

    assert breaker(bulkhead.call)(go_over) == "answer"
    holder.close()
    assert breaker.ledger.scope == "host"
    assert (breaker.snapshot().in_flight, breaker.snapshot().totals.successes) == (0, 0)
    assert bulkhead.call(int) == 0
    assert breaker.snapshot().totals.successes == 1


def test_operators_state_of_an_unshared_breaker_moves_with_it(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "l").mkdir()
    ledger = Ledger.open(f"file://{tmp_path}/l")
    held, free = (CircuitBreaker(name, ONE, ledger=ledger, clock=clock) for name in ("held", "free"))
    held.control.force_open(reason="the vendor migrates", author="alice", duration=60)
    assert [each.name for each in ledger.history()] == ["held"]
    (tmp_path / "l").rmdir()
    clock.advance(20)
    held.control.evaluate()
    free.control.evaluate()
    assert (ledger.scope, ledger.degraded, sorted(ledger.names())) == ("host", None, ["free", "held"])
    other = CircuitBreaker("held", ONE, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    assert other.state is State.FORCED_OPEN
    assert other.snapshot().retry_after == 40
    assert "the vendor migrates (by alice)" in other.explain()
    assert free.state is State.CLOSED


def test_breakers_created_after_a_busy_lock_do_not_each_wait(tmp_path: Path) -> None:
    ledger = Ledger.in_file(tmp_path / "l")
    holder = claim(f"{tmp_path}/l.locks/transitions")
    clock = FakeClock()
    first = ledger.core.record("d", clock())
    begin = os.times().elapsed
    rows = [ledger.core.record(f"d{number}", clock()) for number in range(50)]
    assert os.times().elapsed - begin < 0.5
    assert {row.ledger.scope for row in (first, *rows)} == {"process"}
    assert holder is not None
    holder.close()
