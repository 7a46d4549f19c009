"""The three forms of a call, listeners, snapshots and the registry."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Event, Ledger, Registry, State, StateChange, Stats
from cb.health_probes import HealthProbes
from cb.testing import FakeClock
from tests.unit.conftest import Dependency

Make = Callable[..., Dependency]


def test_decorated_function_keeps_its_name_arguments_and_answer() -> None:
    breaker = CircuitBreaker("d")

    @breaker
    def add(one: int, *, other: int) -> int:
        """Add."""
        return one + other

    assert add(1, other=2) == 3
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert breaker.snapshot().totals.successes == 1


def test_function_that_takes_fn_and_self_by_keyword_can_be_called() -> None:
    def echo(**words: int) -> dict[str, int]:
        return words

    assert CircuitBreaker("d").call(echo, fn=1, self=2) == {"fn": 1, "self": 2}


def test_with_block_counts_its_outcome_and_is_refused_when_open(make: Make) -> None:
    dependency = make(failure_threshold=1)
    with dependency.breaker:
        pass
    with pytest.raises(OSError), dependency.breaker:
        raise OSError
    with pytest.raises(CircuitOpenError), dependency.breaker:
        pytest.fail("the block of an open circuit ran")
    totals = dependency.breaker.snapshot().totals
    assert (totals.successes, totals.failures, totals.rejected) == (1, 1, 1)


def test_function_whose_work_comes_after_its_call_is_refused_by_the_decorator() -> None:
    def generator() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="after the call has returned"):
        CircuitBreaker("d")(generator)


def test_call_within_a_call_of_the_same_breaker_is_counted_on_its_own(make: Make) -> None:
    breaker = make().breaker
    assert breaker.call(lambda: breaker.call(lambda: breaker.snapshot().in_flight)) == 2
    snapshot = breaker.snapshot()
    assert (snapshot.totals.successes, snapshot.in_flight) == (2, 0)


def test_many_threads_on_one_breaker_lose_no_count(ledger: Ledger) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=None, failure_rate_threshold=1.0), ledger=ledger)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for number in range(500):
            try:
                breaker.call(divmod, 1, number % 5)
            except ZeroDivisionError:
                continue

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = breaker.snapshot()
    assert (snapshot.totals.successes, snapshot.totals.failures) == (3200, 800)
    assert (snapshot.window.requests, snapshot.window.failures, snapshot.in_flight) == (4000, 800, 0)


def test_more_calls_at_once_than_a_host_has_tallies_are_all_counted(make: Make) -> None:
    breaker = make(failure_threshold=1000, failure_rate_threshold=None).breaker
    with pytest.raises(OSError), ExitStack() as failing:
        with ExitStack() as succeeding:
            for _ in range(300):
                failing.enter_context(breaker)
                succeeding.enter_context(breaker)
        raise OSError
    snapshot = breaker.snapshot()
    assert (snapshot.totals.requests, snapshot.totals.failures, snapshot.in_flight) == (600, 300, 0)
    assert (snapshot.window.requests, snapshot.window.failures) == (600, 300)


def test_listener_may_read_the_breaker_and_call_through_it(make: Make) -> None:
    dependency = make(failure_threshold=1)
    seen: list[State] = []

    def listen(event: Event) -> None:
        if isinstance(event, StateChange):
            seen.append(dependency.breaker.snapshot().state)
            with pytest.raises(CircuitOpenError):
                dependency.answer()

    dependency.breaker.listeners.append(listen)
    dependency.fail()
    assert seen == [State.OPEN]


def test_listener_that_raises_is_logged_and_the_next_one_is_called(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    dependency = make(failure_threshold=1)
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("listener is broken")

    dependency.breaker.listeners[:] = [broken, seen.append]
    dependency.fail()
    assert len(seen) == 1
    assert "listener is broken" in caplog.text


def test_interruption_inside_a_listener_gives_the_permit_back(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout="1s", max_requests=1, success_threshold=1)
    dependency.fail()
    dependency.clock.advance(1)
    dependency.breaker.listeners[:] = [_interrupt]
    with pytest.raises(KeyboardInterrupt):
        dependency.answer()
    dependency.breaker.listeners.clear()
    dependency.answer()
    assert (dependency.breaker.state, dependency.breaker.snapshot().in_flight) == (State.CLOSED, 0)


def test_snapshot_of_a_used_breaker_has_all_counts(make: Make, clock: FakeClock) -> None:
    dependency = make(slow_call_duration="1s")
    dependency.answer(seconds=0.003)
    dependency.answer(seconds=1.5)
    dependency.fail(TimeoutError(), seconds=0.2)
    clock.advance(4)
    snapshot = dependency.breaker.snapshot()
    assert (snapshot.window.requests, snapshot.window.failures, snapshot.window.slow) == (3, 1, 1)
    assert snapshot.window.failure_rate == pytest.approx(1 / 3)
    assert snapshot.latency.sum == pytest.approx(1.703)
    assert sum(snapshot.latency.counts) == 3
    assert 0.1 < (snapshot.latency.quantile(0.5) or 0) <= 0.25
    assert snapshot.last_failure is not None
    assert (snapshot.last_failure.type, snapshot.last_failure.ago) == ("TimeoutError", 4)
    assert snapshot.why == "closed: 3 of 5 calls needed in 60 s, or 10 failures in a row"
    assert snapshot.age == pytest.approx(5.703)


def test_figures_are_those_of_the_snapshot(make: Make, clock: FakeClock) -> None:
    dependency = make(failure_threshold=3)
    breaker = dependency.breaker
    HealthProbes(breaker).note(None, took=0.1, valid=15)
    dependency.answer(seconds=0.02)
    for _ in range(3):
        dependency.fail()
    with pytest.raises(CircuitOpenError):
        dependency.answer()
    snapshot = breaker.snapshot()
    assert breaker.stats() == Stats(**{each.name: getattr(snapshot, each.name) for each in fields(Stats)})
    assert (snapshot.totals.failures, snapshot.totals.rejected, snapshot.latency.sum) == (3, 1, 0.02)


def test_totals_are_right_where_a_sum_of_times_is_too_large_for_a_cell(make: Make, clock: FakeClock) -> None:
    clock.now = 2**62
    breaker = make(failure_threshold=100, failure_rate_threshold=None).breaker

    def fail(depth: int) -> None:
        if depth:
            breaker.call(fail, depth - 1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fail(20)
    totals = breaker.stats().totals
    assert (totals.failures, totals.requests, totals.rejected, breaker.stats().in_flight) == (20, 20, 0, 0)
    assert breaker.stats().latency.sum == 0


def test_snapshot_of_a_busy_breaker_says_what_would_open_it(make: Make) -> None:
    dependency = make()
    for _ in range(11):
        dependency.answer()
    dependency.fail()
    assert dependency.breaker.snapshot().why == (
        "closed: 1 of 12 calls failed (8%), opens at 60% or 10 in a row (now 1)"
    )


def test_registry_returns_the_same_breaker_for_a_name_with_its_own_thresholds(clock: FakeClock) -> None:
    registry = Registry(overrides={"risk": BreakerConfig(timeout=5)}, clock=clock)
    risk = registry.get("risk")
    assert registry.get("risk") is risk
    assert (risk.config.timeout, registry.get("audit").config.timeout) == (5, 30)
    assert [breaker.name for breaker in registry] == ["audit", "risk"]


def test_registry_never_makes_a_breaker_by_looking_for_one() -> None:
    registry = Registry()
    assert registry.find("nobody") is None
    assert list(registry) == []


def test_listeners_of_a_registry_receive_the_events_of_every_breaker(clock: FakeClock) -> None:
    changes: list[Event] = []
    registry = Registry(defaults=BreakerConfig(failure_threshold=1), listeners=[changes.append], clock=clock)
    for name in ("one", "two"):
        with pytest.raises(ZeroDivisionError):
            registry.get(name).call(divmod, 1, 0)
    assert [change.name for change in changes] == ["one", "two"]


def _interrupt(event: Event) -> None:
    raise KeyboardInterrupt


def test_signal_handler_that_calls_within_a_change_of_state_does_not_wait_for_the_lock(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(tmp_path / "l"))

    def interrupted() -> None:
        with pytest.raises(ZeroDivisionError):
            breaker.call(divmod, 1, 0)

    breaker.ledger.core.lock.run(interrupted, timeout=1)
    assert breaker.state is State.CLOSED
    breaker.control.evaluate()
    assert breaker.state is State.OPEN


def test_totals_never_decrease_while_calls_fail() -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=None, failure_rate_threshold=1.0))
    for _ in range(100):
        breaker.call(int)
    done = threading.Event()

    def fail() -> None:
        while not done.is_set():
            with suppress(ZeroDivisionError):
                breaker.call(divmod, 1, 0)

    thread = threading.Thread(target=fail)
    thread.start()
    seen = [breaker.snapshot().totals for _ in range(2000)]
    done.set()
    thread.join()
    assert {totals.successes for totals in seen} == {100}
    assert [totals.requests for totals in seen] == sorted(totals.requests for totals in seen)


def test_listener_that_removes_itself_hides_no_event_from_the_next() -> None:
    breaker, heard = CircuitBreaker("d"), list[str]()

    def once(_: Event) -> None:
        heard.append("once")
        breaker.listeners.remove(once)

    breaker.listeners += [once, lambda _: heard.append("always")]
    breaker.control.reset(reason="test")
    assert heard == ["once", "always"]
