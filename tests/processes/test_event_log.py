"""Log lines of real processes: one that configures no logging, and one that counts the calls of a killed one."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.testing import workers
from tests.support.waiting import until

CONFIG = BreakerConfig(failure_threshold=1)


def hang(path: Path) -> None:
    CircuitBreaker("vendor", CONFIG, ledger=Ledger.in_file(path)).call(time.sleep, 60)


def test_call_of_a_killed_worker_is_named_in_the_log_the_history_and_the_last_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker("vendor", CONFIG, ledger=Ledger.in_file(tmp_path / "l"))
    with workers(1) as (worker,):
        worker.send(hang, tmp_path / "l")
        until(lambda: breaker.snapshot().in_flight == 1)
        pid = worker.process.pid
        worker.kill()
        until(lambda: breaker.state is State.OPEN)
    ended = f"worker {pid} ended during a call"
    failure = breaker.snapshot().last_failure
    assert failure is not None
    assert (str(failure), failure.type, failure.worker) == (ended, "worker_ended", str(pid))
    assert breaker.ledger.history()[-1].reason == f"1 consecutive failure: {ended}"
    # The state changes before the line is written. Breakers of earlier tests may log too.
    lines = until(lambda: found if len(found := [each for each in caplog.messages if "vendor" in each]) >= 2 else None)
    reclaimed, opened = lines
    assert reclaimed == f"circuit vendor: 1 call counted as failed: {ended}"
    assert opened == f"circuit vendor: CLOSED -> OPEN: 1 consecutive failure: {ended}; 1 call in 60 s, 1 failed (100%)"


def test_program_that_configures_no_logging_sees_the_opening_on_stderr() -> None:
    program = """
from cb import BreakerConfig, CircuitBreaker
breaker = CircuitBreaker("vendor", BreakerConfig(failure_threshold=3))
for _ in range(100):
    try:
        breaker.call(lambda: 1 / 0)
    except Exception:
        pass
breaker.control.reset(reason="done")
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    (line,) = ran.stderr.splitlines()
    assert line.startswith("circuit vendor: CLOSED -> OPEN: 3 consecutive failures; 3 calls in 60 s, 3 failed (100%)")
    assert ran.stdout == ""
