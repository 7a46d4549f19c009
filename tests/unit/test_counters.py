"""What no sequence of calls brings about in one process: a tally between two steps. See docs/mutation.md."""

from collections.abc import Callable

import pytest

from cb import BreakerConfig, Ledger, State
from cb.ledger import layout as at
from cb.ledger.counters import Counters, private_cells
from cb.ledger.record import Record
from cb.ledger.shards import adopt
from cb.state.window import read
from cb.states import CODES, Outcome
from cb.testing import FakeClock
from tests.unit.conftest import Dependency

Make = Callable[..., Dependency]
HALF_OPEN_WORD = 7 << 16 | CODES[State.HALF_OPEN]


def closed_word(generation: int) -> int:
    return generation << 16 | CODES[State.CLOSED]


@pytest.mark.parametrize("ended", [at.ROUND_SUCCESSES, at.ROUND_FAILURES, at.ROUND_RETURNED])
def test_permit_is_out_from_its_taking_to_any_of_its_three_ends(ended: int) -> None:
    tally = Counters(private_cells(at.STRIPE_CELLS), private_cells(at.PAGE))
    tally.cells[at.SUCCESSES] = 8  # what lies beside
    for permits in (1, 2, 3):
        tally.admit(HALF_OPEN_WORD, permits)
        assert tally.permits_held() == 1
        tally.end_probe(ended)
        assert tally.permits_held() == 0


def test_overdue_probe_fails_once_whatever_became_of_the_probes_before_it(make: Make, clock: FakeClock) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=9, success_threshold=5, probe_timeout=1)
    dependency.fail()
    clock.advance(10)
    dependency.answer()
    dependency.fail()
    dependency.fail(KeyboardInterrupt())
    with dependency.breaker:
        clock.advance(1)
        assert "3 of 9 probes sent, 1 succeeded and 2 failed" in dependency.breaker.explain()


def test_call_that_counted_itself_when_its_stay_had_just_ended_has_no_part_in_the_next(ledger: Ledger) -> None:
    config, second = BreakerConfig(), 1_000_000_000
    row: Record = ledger.core.record("d", second)
    row.head[at.SLICE] = 6 * second
    tally = row.grow(second)
    tally.admit(closed_word(1), second)
    # Its generation is checked, then the state changes twice, and only now does it count.
    row.head[at.WORD], row.head[at.ORIGIN] = closed_word(3), 2 * second
    tally.record(3 * second, Outcome.FAILURE, slow=False)
    tally.cells[at.STARTED] = 0
    assert read(row, config, 3 * second).window.failures == 0
    tally.admit(closed_word(3), 4 * second)
    tally.record(4 * second, Outcome.FAILURE, slow=False)
    assert read(row, config, 4 * second).window.failures == 1


def test_probes_that_their_calls_have_lost_give_back_each_its_permit_and_run_no_more() -> None:
    tally = Counters(private_cells(at.STRIPE_CELLS), private_cells(at.PAGE))
    for lost in (1, 2):
        tally.admit(HALF_OPEN_WORD, lost)
        tally.abandon()
        assert (tally.cells[at.ROUND_RETURNED], tally.permits_held(), tally.cells[at.STARTED]) == (lost, 0, 0)
    assert tally.cells[at.NEUTRAL] == 2


def test_probe_that_is_lost_while_its_caller_has_the_turn_is_good() -> None:
    tally = Counters(private_cells(at.STRIPE_CELLS), private_cells(at.PAGE))
    tally.admit(HALF_OPEN_WORD, 1)
    tally.pause(2)
    tally.abandon()
    assert (tally.cells[at.ROUND_SUCCESSES], tally.cells[at.ROUND_RETURNED], tally.permits_held()) == (1, 0, 0)
    assert (tally.cells[at.NEUTRAL], tally.cells[at.STARTED]) == (1, 0)


def test_call_that_finds_the_verdict_of_a_round_not_yet_given_closes_the_circuit_and_runs(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1)
    breaker = dependency.breaker
    dependency.fail()
    dependency.clock.advance(10)
    probe = breaker.begin()
    breaker.ledger.core.lock.run(lambda: breaker.finish(probe, None), 0)  # the lock cannot be had for the evaluation
    assert breaker.state is State.HALF_OPEN
    assert dependency.answer() == "answer"
    assert breaker.state is State.CLOSED


def test_call_that_waits_for_its_caller_is_in_flight_but_neither_slow_nor_hung(make: Make, clock: FakeClock) -> None:
    breaker = make(failure_threshold=1, call_timeout=5, slow_call_duration=1).breaker
    call = breaker.begin()
    clock.advance(0.5)
    breaker.pause(call)
    clock.advance(600)
    breaker.tick()
    assert (breaker.state, breaker.snapshot().in_flight, breaker.snapshot().window.slow) == (State.CLOSED, 1, 0)

    breaker.resume(call)
    clock.advance(0.4)
    breaker.finish(call, None)

    totals = breaker.snapshot().totals
    assert (totals.successes, totals.slow, breaker.snapshot().in_flight) == (1, 0, 0)
    assert breaker.snapshot().latency.sum == pytest.approx(0.9)


def test_call_that_waits_for_the_dependency_again_hangs_from_then_on(make: Make, clock: FakeClock) -> None:
    breaker = make(failure_threshold=1, call_timeout=5).breaker
    call = breaker.begin()
    breaker.pause(call)
    clock.advance(600)
    breaker.resume(call)
    clock.advance(5)
    breaker.tick()
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(("paused", "state"), [(True, State.CLOSED), (False, State.OPEN)])
def test_probe_that_has_been_answered_closes_the_circuit_though_its_caller_takes_all_his_time(
    make: Make, clock: FakeClock, *, paused: bool, state: State
) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1, probe_timeout=2)
    dependency.fail()
    clock.advance(11)
    breaker = dependency.breaker
    call = breaker.begin()
    if paused:
        breaker.pause(call)
    clock.advance(30)
    breaker.tick()
    assert breaker.state is state
    if paused:
        breaker.resume(call)
    breaker.finish(call, None)
    assert breaker.snapshot().totals.late == 1


def test_dead_worker_has_not_failed_a_call_that_waited_for_its_caller(ledger: Ledger) -> None:
    second = 1_000_000_000
    row: Record = ledger.core.record("d", second)
    running, paused = row.grow(second), row.grow(second)
    for tally in (running, paused):
        tally.admit(closed_word(1), second)
    paused.pause(2 * second)
    (block,) = at.allocated_shards(row._cells)  # noqa: SLF001 - what its heir gets

    assert adopt(row._cells, block, 3 * second) == 1  # noqa: SLF001 - as an heir does

    assert (paused.cells[at.NEUTRAL], paused.cells[at.STARTED]) == (1, 0)
