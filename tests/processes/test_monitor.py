"""Monitors in real processes: one of a host checks, and another one goes on."""

import gc
import os
import threading
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, Ledger, Monitor, State
from cb.health_probes import HealthProbes
from cb.ledger.layout import SHARDS
from cb.testing import FakeClock, Worker, workers
from tests.support.waiting import until

claim = pytest.importorskip("cb.ledger.locks", reason="POSIX").claim
pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes; Windows has memory:// only"),
]


class Here:
    """Objects of one process."""

    breaker: CircuitBreaker
    monitor: Monitor


def make(path: Path) -> None:
    """Create the objects of a service, before or after a fork; each check records the id of its process."""

    def check() -> None:
        with path.with_suffix(".checks").open("a", encoding="ascii") as checks:
            checks.write(f"{os.getpid()}\n")

    Here.breaker = CircuitBreaker("d", ledger=Ledger.in_file(path))
    Here.monitor = Monitor()
    Here.monitor.add(Here.breaker, check, interval=0.1)
    Here.monitor.start()


def serve() -> int:
    Here.breaker.call(int)
    return os.getpid()


def up() -> bool:
    health = Here.breaker.snapshot().health
    return health is not None and health.up is True


def stop() -> None:
    Here.monitor.close()


def checkers(path: Path) -> list[int]:
    file = path.with_suffix(".checks")
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_one_process_checks_and_all_know(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with workers(3) as processes:
        for process in processes:
            process.call(make, path)
        until(lambda: len(checkers(path)) >= 5)
        assert len(set(checkers(path))) == 1
        assert all(process.call(up) for process in processes)


def test_next_process_goes_on_when_one_is_killed_or_stops(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with workers(3) as processes:
        for process in processes:
            process.call(make, path)
        for number, end in enumerate([Worker.kill, lambda worker: worker.call(stop)], 1):
            until(lambda number=number: len(set(checkers(path))) == number)  # type: ignore[misc]  # a lambda's default
            last = checkers(path)[-1]
            (checker,) = [process for process in processes if process.process.pid == last]
            end(checker)
        until(lambda: len(set(checkers(path))) == 3)


def test_forked_child_takes_over_from_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "l"
    make(path)
    until(lambda: checkers(path))
    assert set(checkers(path)) == {os.getpid()}
    with workers(1, "fork") as (child,):
        pid = child.call(serve)
        stop()
        until(lambda: pid in checkers(path))
        assert child.call(up)


def test_monitor_that_is_garbage_collected_leaves_the_checks_to_others(tmp_path: Path) -> None:
    path = tmp_path / "l"
    make(path)
    until(lambda: checkers(path))

    del Here.monitor
    gc.collect()

    other = Ledger.in_file(path)
    until(lambda: other.core.elect(f"health-{HealthProbes(Here.breaker).index}"))
    assert not any(thread.name == "cb-health" for thread in threading.enumerate())


def test_worker_without_a_block_lets_a_circuit_recover_by_health_check(tmp_path: Path) -> None:
    path, clock = tmp_path / "l", FakeClock()
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(path), clock=clock)
    with pytest.raises(OSError), breaker:
        raise OSError
    taken = [claim(f"{path}.locks/{block}") for block in range(SHARDS)]
    late = CircuitBreaker("d", ledger=Ledger.in_file(path), clock=clock)
    monitor = Monitor(clock=clock)
    monitor.add(late, bool)

    clock.advance(60)
    for _ in range(3):
        monitor.turn()
    assert breaker.state is State.CLOSED

    for file in taken:
        if file is not None:
            file.close()


def test_monitor_goes_over_to_the_ledger_with_its_breaker(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.mkdir()
    breaker = CircuitBreaker("d", ledger=Ledger.open(f"file://{path}"))
    monitor = Monitor()
    monitor.add(breaker, bool, interval=0.1)
    monitor.start()
    until(lambda: breaker.snapshot().health)
    path.rmdir()
    until(lambda: breaker.ledger.scope == "host")
    other = CircuitBreaker("d", ledger=Ledger.in_file(path))
    until(lambda: other.snapshot().health)

    def has_the_role_there() -> bool:
        if other.ledger.core.elect("health-0"):
            other.ledger.core.resign("health-0")
            return False
        return True

    until(has_the_role_there)
    monitor.close()
