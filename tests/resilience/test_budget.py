"""The budget that keeps retries from adding to an outage."""

import os
import signal
import threading

import pytest

from cb.resilience import RetryBudget, retrying
from cb.testing import FakeClock


def failing(budget: RetryBudget, calls: int, attempts: int = 3) -> int:
    """Make calls that fail in all their attempts. Return how many retries there were."""
    made = []

    def fail() -> None:
        made.append(1)
        raise OSError

    policy = retrying(OSError, attempts=attempts, budget=budget, sleep=lambda _: None)
    for _ in range(calls):
        with pytest.raises(OSError):
            policy(fail)
    return len(made) - calls


def test_retries_in_an_outage_are_a_tenth_of_the_calls() -> None:
    assert failing(RetryBudget(min_per_second=0, clock=FakeClock()), 1000) == 100


def test_retries_without_a_budget_are_all_that_are_allowed() -> None:
    assert failing(RetryBudget(1, burst=10_000, min_per_second=0, clock=FakeClock()), 100, attempts=2) == 100


def test_budget_starts_with_one_second_and_fills_with_time_for_who_calls_seldom() -> None:
    clock = FakeClock()
    budget = RetryBudget(0, min_per_second=2, clock=clock)
    assert failing(budget, 10) == 2
    clock.advance(1.5)
    assert failing(budget, 10) == 3


def test_calm_saves_up_no_more_than_a_burst() -> None:
    clock = FakeClock()
    budget = RetryBudget(0.1, min_per_second=1, burst=4, clock=clock)
    for _ in range(1000):
        budget.record_call()
    clock.advance(3600)
    assert budget.available == 4
    assert failing(RetryBudget(0, min_per_second=0, clock=clock), 10) == 0


def test_clock_that_steps_back_takes_and_gives_nothing() -> None:
    clock = FakeClock()
    budget = RetryBudget(0, min_per_second=1, clock=clock)
    assert budget.try_acquire()
    clock.advance(-100)
    assert not budget.try_acquire()
    clock.advance(1)
    assert budget.try_acquire()


def test_retry_that_no_attempt_is_left_for_takes_nothing_from_the_budget() -> None:
    budget = RetryBudget(0, min_per_second=5, clock=FakeClock())
    assert failing(budget, 1, attempts=3) == 2
    assert budget.available == 3


def test_policies_that_share_a_budget_share_its_retries() -> None:
    budget = RetryBudget(0, min_per_second=3, clock=FakeClock())
    assert failing(budget, 1) + failing(budget, 5) == 3


def test_budget_of_many_threads_gives_no_retry_twice() -> None:
    budget = RetryBudget(0, min_per_second=1000, burst=1000, clock=FakeClock())
    given = []
    threads = [
        threading.Thread(target=lambda: given.append(sum(budget.try_acquire() for _ in range(500)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(given) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_budget_that_is_in_use_at_a_fork_works_in_the_child() -> None:
    inside, forked = threading.Event(), threading.Event()

    def clock() -> int:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            forked.wait(10)
        return 0

    budget = RetryBudget(0, min_per_second=2, clock=clock)
    thread = threading.Thread(target=budget.try_acquire)
    thread.start()
    assert inside.wait(10)
    pid = os.fork()
    if not pid:
        signal.alarm(10)  # rather than to hang
        os._exit(not budget.try_acquire())
    forked.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
