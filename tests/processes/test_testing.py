"""The workers of `cb.testing`."""

import os
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger
from cb.testing import workers


def fail(path: Path, times: int) -> int:
    """Fail in a worker, and return its process id."""
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=3), ledger=Ledger.in_file(path))
    for _ in range(times):
        with pytest.raises(ZeroDivisionError):
            breaker.call(divmod, 1, 0)
    return os.getpid()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_are_processes_that_share_a_ledger(tmp_path: Path, method: str) -> None:
    with workers(2, method) as processes:
        assert repr(processes[0]) == f"<Worker {processes[0].process.pid} running>"
        pids = [worker.call(fail, tmp_path / "l", 1) for worker in processes]
        assert len({*pids, os.getpid()}) == 3
        processes[0].kill()
        assert repr(processes[0]).endswith(" ended>")
        processes[1].stop()
        processes[1].resume()
        processes[1].call(fail, tmp_path / "l", 1)
        with pytest.raises(CircuitOpenError):
            processes[1].call(fail, tmp_path / "l", 1)


def test_result_of_a_call_that_was_only_sent_is_not_returned_by_the_next_call() -> None:
    with workers(1) as (worker,):
        worker.send(abs, -1)
        assert worker.call(abs, -2) == 2
