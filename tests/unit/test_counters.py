"""Counters between two steps of a call, which no sequence of calls in one process produces. See docs/mutation.md."""

from collections.abc import Callable

import pytest

from cb import BreakerConfig, Ledger, State
from cb.ledger import layout as at
from cb.ledger.counters import PAUSED, Counters, OverflowCounters, SharedCounters, private_cells
from cb.ledger.dead_workers import adopt
from cb.ledger.record import Record
from cb.state.window import read
from cb.states import CODES, Outcome
from cb.testing import FakeClock
from tests.unit.conftest import Dependency

Make = Callable[..., Dependency]
HALF_OPEN_WORD = 7 << 16 | CODES[State.HALF_OPEN]


def loose_counters() -> Counters:
    """Return counters in cells of their own."""
    return Counters(private_cells(at.STRIPE_CELLS), private_cells(at.PAGE))


def closed_word(generation: int) -> int:
    return generation << 16 | CODES[State.CLOSED]


@pytest.mark.parametrize("ended", [at.ROUND_SUCCESSES, at.ROUND_FAILURES, at.ROUND_RETURNED])
def test_permit_is_held_until_its_probe_ends(ended: int) -> None:
    counters = loose_counters()
    counters.cells[at.SUCCESSES] = 8  # the cells next to those of the round
    for permits in (1, 2, 3):
        counters.admit(HALF_OPEN_WORD, permits)
        assert counters.permits_held() == 1
        counters.end_probe(ended)
        assert counters.permits_held() == 0


def test_overdue_probe_fails_once_after_any_outcome_of_earlier_probes(make: Make, clock: FakeClock) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=9, success_threshold=5, probe_timeout=1)
    dependency.fail()
    clock.advance(10)
    dependency.answer()
    dependency.fail()
    dependency.fail(KeyboardInterrupt())
    with dependency.breaker:
        clock.advance(1)
        assert "3 of 9 probes sent, 1 succeeded and 2 failed" in dependency.breaker.explain()


def test_call_counted_just_after_its_generation_ended_is_not_in_the_next_window(ledger: Ledger) -> None:
    config, second = BreakerConfig(), 1_000_000_000
    row: Record = ledger.core.record("d", second)
    row.head[at.SLICE] = 6 * second
    counters = row.grow(second)
    counters.admit(closed_word(1), second)
    # The generation is checked, then the state changes twice, and only then is the call counted.
    row.head[at.WORD], row.head[at.ORIGIN] = closed_word(3), 2 * second
    counters.record(3 * second, Outcome.FAILURE, slow=False)
    counters.cells[at.STARTED] = 0
    assert read(row, config, 3 * second).window.failures == 0
    counters.admit(closed_word(3), 4 * second)
    counters.record(4 * second, Outcome.FAILURE, slow=False)
    assert read(row, config, 4 * second).window.failures == 1


def test_dropped_probes_return_their_permits_and_no_longer_run() -> None:
    counters = loose_counters()
    for lost in (1, 2):
        counters.admit(HALF_OPEN_WORD, lost)
        counters.abandon()
        assert (counters.cells[at.ROUND_RETURNED], counters.permits_held(), counters.cells[at.STARTED]) == (lost, 0, 0)
    assert counters.cells[at.NEUTRAL] == 2


def test_probe_dropped_while_its_caller_reads_the_response_succeeds() -> None:
    counters = loose_counters()
    counters.admit(HALF_OPEN_WORD, 1)
    counters.pause(2)
    counters.abandon()
    assert (counters.cells[at.ROUND_SUCCESSES], counters.cells[at.ROUND_RETURNED], counters.permits_held()) == (1, 0, 0)
    assert (counters.cells[at.NEUTRAL], counters.cells[at.STARTED]) == (1, 0)


def test_call_that_finds_an_unevaluated_round_closes_the_circuit_and_runs(make: Make) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1)
    breaker = dependency.breaker
    dependency.fail()
    dependency.clock.advance(10)
    probe = breaker.begin()
    breaker.ledger.core.lock.run(probe.succeed, 0)  # the lock is not available for the evaluation
    assert breaker.state is State.HALF_OPEN
    assert dependency.answer() == "answer"
    assert breaker.state is State.CLOSED


def test_call_paused_for_its_caller_is_in_flight_but_neither_slow_nor_hung(make: Make, clock: FakeClock) -> None:
    breaker = make(failure_threshold=1, call_timeout=5, slow_call_duration=1).breaker
    call = breaker.begin()
    clock.advance(0.5)
    call.pause()
    clock.advance(600)
    breaker.control.evaluate()
    assert (breaker.state, breaker.snapshot().in_flight, breaker.snapshot().window.slow) == (State.CLOSED, 1, 0)

    call.resume()
    clock.advance(0.4)
    call.succeed()

    totals = breaker.snapshot().totals
    assert (totals.successes, totals.slow, breaker.snapshot().in_flight) == (1, 0, 0)
    assert breaker.snapshot().latency.sum == pytest.approx(0.9)


def test_resumed_call_can_hang(make: Make, clock: FakeClock) -> None:
    breaker = make(failure_threshold=1, call_timeout=5).breaker
    call = breaker.begin()
    call.pause()
    clock.advance(600)
    call.resume()
    clock.advance(5)
    breaker.control.evaluate()
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(("paused", "state"), [(True, State.CLOSED), (False, State.OPEN)])
def test_answered_probe_closes_the_circuit_while_its_caller_reads_slowly(
    make: Make, clock: FakeClock, *, paused: bool, state: State
) -> None:
    dependency = make(failure_threshold=1, timeout=10, max_requests=1, success_threshold=1, probe_timeout=2)
    dependency.fail()
    clock.advance(11)
    breaker = dependency.breaker
    call = breaker.begin()
    if paused:
        call.pause()
    clock.advance(30)
    breaker.control.evaluate()
    assert breaker.state is state
    if paused:
        call.resume()
    call.succeed()
    assert breaker.snapshot().totals.late == 1


def test_paused_call_of_a_dead_worker_is_no_failure(ledger: Ledger) -> None:
    second = 1_000_000_000
    row: Record = ledger.core.record("d", second)
    running, paused = row.grow(second), row.grow(second)
    for counters in (running, paused):
        counters.admit(closed_word(1), second)
    paused.pause(2 * second)
    (shard,) = at.allocated_shards(row._cells)  # noqa: SLF001 - as the process that adopts it reads it

    assert adopt(row._cells, shard, 3 * second, 4711) == 1  # noqa: SLF001 - as another process does

    assert (paused.cells[at.NEUTRAL], paused.cells[at.STARTED]) == (1, 0)


@pytest.mark.parametrize(("word", "started"), [(closed_word(1), 5 + PAUSED), (HALF_OPEN_WORD, 5)])
def test_call_that_hands_over_its_connection_without_a_response_is_paused_unless_a_round_waits_for_it(
    word: int, started: int
) -> None:
    counters = loose_counters()
    counters.admit(word, 5)
    counters.pause(6, answered=False)
    assert counters.cells[at.STARTED] == started


def test_total_that_another_program_has_written_over_begins_again() -> None:
    counters = loose_counters()
    counters.cells[at.NEUTRAL] = (1 << 63) - 1
    counters.count(at.NEUTRAL)
    assert counters.cells[at.NEUTRAL] == 1


def test_outcomes_that_are_merged_after_their_generation_ended_are_late() -> None:
    merged, pending = loose_counters(), loose_counters()
    merged.head[at.WORD] = closed_word(2)
    for late, outcomes in ((2, 2), (5, 3)):
        pending.admit(closed_word(1), 1)
        for _ in range(outcomes):
            pending.record(2, Outcome.FAILURE, slow=False)
        merged.merge(pending, 3)
        assert merged.cells[at.LATE] == late
        assert merged.cells[at.ADMITTED], "cells of an admission of 0 are not read"
        assert not any(pending.cells[at.FULL :])
    assert not any(merged.cells[at.SUCCESSES : at.WINDOW])


def test_call_without_counters_of_its_own_inside_a_probe_takes_no_permit_and_returns_none() -> None:
    shared = SharedCounters(loose_counters())
    cells, call = shared.counters.cells, OverflowCounters(shared)
    call.admit(HALF_OPEN_WORD, 1, nested=True)
    assert (shared.counters.permits_held(), cells[at.STARTED]) == (0, 0)
    call.abandon()
    assert (cells[at.NEUTRAL], cells[at.ROUND_RETURNED]) == (1, 0)


def test_probe_without_counters_of_its_own_that_is_cut_off_returns_its_permit() -> None:
    shared = SharedCounters(loose_counters())
    cells, call = shared.counters.cells, OverflowCounters(shared)
    call.admit(HALF_OPEN_WORD, 1)
    assert (shared.counters.permits_held(), cells[at.STARTED]) == (1, 0)
    call.abandon()
    assert (cells[at.NEUTRAL], cells[at.ROUND_RETURNED], shared.counters.permits_held()) == (1, 1, 0)


def test_shared_counters_take_a_permit_unless_told_that_the_call_is_nested() -> None:
    shared = SharedCounters(loose_counters())
    shared.admit(HALF_OPEN_WORD, 1)
    shared.admit(HALF_OPEN_WORD, 2, nested=True)
    assert shared.counters.cells[at.ROUND_TAKEN] == 1


def test_shared_counters_of_a_fork_count_apart_from_the_parent_that_holds_their_lock() -> None:
    shared = SharedCounters(loose_counters())
    cells, lock = shared.counters.cells, shared.lock
    shared.detach()
    shared.run(lambda counters: counters.count(at.NEUTRAL))
    assert (cells[at.NEUTRAL], shared.counters.cells[at.NEUTRAL]) == (0, 1)
    assert shared.lock is not lock
