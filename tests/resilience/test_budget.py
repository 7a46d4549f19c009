"""The retry budget."""

import os
import signal
import threading

import pytest

from cb.resilience import RetryBudget, retrying
from cb.testing import FakeClock


def failing(budget: RetryBudget, calls: int, attempts: int = 3) -> int:
    """Make calls whose attempts all fail, and return the number of retries."""
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


def test_budget_with_ratio_1_allows_one_retry_per_call() -> None:
    assert failing(RetryBudget(1, burst=10_000, min_per_second=0, clock=FakeClock()), 100, attempts=2) == 100


def test_budget_starts_with_one_second_and_refills_with_time() -> None:
    clock = FakeClock()
    budget = RetryBudget(0, min_per_second=2, clock=clock)
    assert failing(budget, 10) == 2
    clock.advance(1.5)
    assert failing(budget, 10) == 3


def test_budget_saves_up_no_more_than_a_burst() -> None:
    clock = FakeClock()
    budget = RetryBudget(0.1, min_per_second=1, burst=4, clock=clock)
    for _ in range(1000):
        budget.record_call()
    clock.advance(3600)
    assert budget.available == 4
    assert failing(RetryBudget(0, min_per_second=0, clock=clock), 10) == 0


def test_clock_that_steps_back_changes_no_budget() -> None:
    clock = FakeClock()
    budget = RetryBudget(0, min_per_second=1, clock=clock)
    assert budget.try_acquire()
    clock.advance(-100)
    assert not budget.try_acquire()
    clock.advance(1)
    assert budget.try_acquire()


def test_last_attempt_takes_nothing_from_the_budget() -> None:
    budget = RetryBudget(0, min_per_second=5, clock=FakeClock())
    assert failing(budget, 1, attempts=3) == 2
    assert budget.available == 3


def test_policies_that_share_a_budget_share_its_retries() -> None:
    budget = RetryBudget(0, min_per_second=3, clock=FakeClock())
    assert failing(budget, 1) + failing(budget, 5) == 3


def test_concurrent_threads_get_each_retry_once() -> None:
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
        signal.alarm(10)  # fail instead of hanging
        os._exit(not budget.try_acquire())
    forked.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
