"""The window and the streak at their edges. docs/rules.md, rules 2, 5, 6 and 11; docs/mutation.md."""

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.breaker import admission_of
from cb.ledger import layout as at
from cb.state import window
from cb.testing import FakeClock
from tests.unit.conftest import Dependency
from tests.unit.test_machine import CONSECUTIVE, RATE, SLOW

Make = Callable[..., Dependency]
CLOSED, OPEN = State.CLOSED, State.OPEN


def test_closed_circuit_opens_on_the_quick_success_that_completes_the_minimum_of_slow_calls(make: Make) -> None:
    dependency = make(**SLOW, slow_call_rate_threshold=0.5)
    for _ in range(3):
        dependency.answer(seconds=1)
    assert dependency.breaker.state is CLOSED
    dependency.answer()
    assert dependency.breaker.state is OPEN


def test_closed_circuit_opens_on_the_second_success_after_failures_if_it_completes_the_minimum(make: Make) -> None:
    dependency = make(**RATE)
    dependency.fail()
    dependency.fail()
    dependency.answer()
    assert dependency.breaker.state is CLOSED
    dependency.answer()
    assert dependency.breaker.state is OPEN


def test_closed_circuit_opens_on_a_success_at_the_instant_older_successes_leave_the_window(make: Make) -> None:
    dependency = make(**RATE, interval="10s")
    for _ in range(9):
        dependency.answer()
    dependency.clock.advance(9)
    for _ in range(8):
        dependency.fail()
    assert dependency.breaker.state is CLOSED
    dependency.clock.advance(1)
    dependency.answer()
    assert dependency.breaker.state is OPEN


def test_closed_circuit_forgets_slow_calls_older_than_its_window(make: Make) -> None:
    dependency = make(slow_call_duration="1s", interval="10s")
    with dependency.breaker, dependency.breaker:
        dependency.clock.advance(1)
    assert dependency.breaker.snapshot().window.slow == 2
    dependency.clock.advance(10)
    dependency.answer()
    window = dependency.breaker.snapshot().window
    assert (window.requests, window.slow, window.slow_call_rate) == (1, 0, 0)


def frames(dependency: Dependency) -> int:
    """Return the number of Python functions that a successful call runs: its cost on any machine."""
    ran: list[str] = []
    sys.setprofile(lambda _, event, __: ran.append(event))
    try:
        dependency.answer()
    finally:
        sys.setprofile(None)
    return ran.count("call")


def test_closed_circuit_with_failures_sums_its_window_at_the_minimum_and_then_no_more(make: Make) -> None:
    dependency = make(failure_threshold=None, failure_rate_threshold=0.9, minimum_requests=4)
    dependency.fail()
    dependency.answer()
    looking = [frames(dependency), frames(dependency)]
    assert frames(dependency) < min(looking)


def test_closed_circuit_whose_failures_have_left_the_window_is_as_quick_as_before(make: Make) -> None:
    dependency = make()
    dependency.answer()
    before = frames(dependency)
    dependency.clock.advance(6)
    assert frames(dependency) > before  # the first of a new slice
    assert frames(dependency) == before
    dependency.fail()
    assert frames(dependency) > before
    dependency.clock.advance(60)
    dependency.answer()
    assert frames(dependency) == before


def test_call_that_hangs_after_a_success_extends_the_streak_when_its_time_is_up(make: Make) -> None:
    dependency = make(call_timeout="1s")
    dependency.fail()
    dependency.answer()
    with dependency.breaker:
        dependency.clock.advance(1)
        assert dependency.breaker.snapshot().consecutive_failures == 1


def test_success_at_the_instant_another_call_times_out_ends_the_streak(make: Make) -> None:
    dependency = make(call_timeout="1s")
    with dependency.breaker:
        dependency.clock.advance(1)
        dependency.breaker.control.evaluate()
        dependency.answer()
        assert dependency.breaker.snapshot().consecutive_failures == 0


def test_circuit_reset_twice_at_one_instant_has_forgotten_the_calls_between(make: Make) -> None:
    dependency = make(**CONSECUTIVE)
    dependency.breaker.control.reset(reason="one")
    dependency.fail()
    dependency.fail()
    dependency.breaker.control.reset(reason="two")
    empty = dependency.breaker.snapshot()
    assert (empty.consecutive_failures, empty.window.failure_rate, empty.window.slow_call_rate) == (0, 0, 0)
    dependency.fail()
    assert dependency.breaker.state is CLOSED


@pytest.mark.parametrize("config", [{}, {"call_timeout": "3s", "slow_call_duration": "2s"}])
def test_sums_of_many_pages_are_kept_and_the_same_as_those_of_all_cells(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, config: dict[str, str]
) -> None:
    thresholds = BreakerConfig.parse({"failure_threshold": 3, "timeout": "1s", "interval": "20s", **config})
    breaker = CircuitBreaker("d", thresholds, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    record = admission_of(breaker).circuit.record
    dice = random.Random(7)
    running = [breaker.begin() for _ in range(window.KEPT_FROM * at.STRIPES)]
    pages = len(record.pages())
    for _ in range(300):
        dice.shuffle(running)
        for call in running[: dice.randrange(4)]:
            running.remove(call)
            dice.choice([call.succeed, call.discard, call.pause, lambda call=call: call.fail(OSError())])()
            clock.advance(dice.choice([0.01, 0.5]))
        clock.advance(0.1)
        with suppress(CircuitOpenError):
            while len(running) < pages * at.STRIPES:
                running.append(breaker.begin())
        kept = window.read(record, breaker.config, clock())
        with monkeypatch.context() as patch:
            patch.setattr(window, "KEPT_FROM", 1000)
            assert kept == window.read(record, breaker.config, clock())
    assert pages >= window.KEPT_FROM
    assert len(breaker.ledger.history()) > 3  # also while it was open, and half-open


def test_pages_of_many_calls_that_have_not_changed_since_the_last_read_are_not_summed_again(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = CircuitBreaker("d", ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    record = admission_of(breaker).circuit.record
    running = [breaker.begin() for _ in range(window.KEPT_FROM * at.STRIPES)]
    summed: list[int] = []

    class PageSums(window.PageSums):
        def __init__(self, *args: Any) -> None:
            summed.append(1)
            super().__init__(*args)

    monkeypatch.setattr(window, "PageSums", PageSums)
    window.read(record, breaker.config, clock())
    assert len(summed) >= window.KEPT_FROM
    summed.clear()
    window.read(record, breaker.config, clock())
    assert not summed
    running[-1].succeed()
    window.read(record, breaker.config, clock())
    assert len(summed) == 1


def test_totals_of_counters_that_another_program_has_written_over_are_numbers() -> None:
    page = memoryview(bytearray(at.PAGE * 8)).cast("q")
    for stripe in range(at.STRIPES_START, at.PAGE, at.STRIPE_CELLS):
        page[stripe + at.ADMITTED] = 1
        page[stripe + at.WINDOW - 1] = -1
    totals = window.totals([page])
    assert (len(totals), totals[: at.FULL]) == (at.WINDOW, [0] * at.FULL)


def test_probe_whose_response_is_read_too_long_is_one_success_more(make: Make, clock: FakeClock) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=4, success_threshold=4, probe_timeout=2)
    dependency.fail()
    clock.advance(10)
    dependency.answer()
    call = dependency.breaker.begin()
    call.pause()
    clock.advance(3)
    assert "2 of 4 probes sent, 2 succeeded and 0 failed" in dependency.breaker.explain()
