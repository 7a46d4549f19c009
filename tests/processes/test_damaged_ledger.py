"""Ledger files damaged while they were unused, or from before the last boot. docs/rules.md, rules 14 and 23."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.ledger import layout as at
from cb.testing import FakeClock, workers

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes: run on Linux or macOS")
CONFIG = BreakerConfig(failure_threshold=3, failure_rate_threshold=None, timeout=60)
#: cell in which the first call of a process counts
LANE = at.HEADER + at.PAGE + at.STRIPES_START + at.STRIPE_CELLS


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *((LANE + cell, value) for cell in (at.SUCCESSES, at.FAILURES, at.ELAPSED) for value in (-1, 2**63 - 1)),
        (LANE + at.STARTED, -1),
        (LANE + at.WINDOW, -(2**63)),
        (at.HEADER + at.CHANGES + 7, 1),
        (at.PAGE + at.EVENT_CELLS + at.E_STATES, 99),
        (at.PAGE + at.EVENT_CELLS + at.E_RECORD, 2**62),
        (at.H_EVENTS, 2**63 - 1),
    ],
)
def test_damage_of_an_unused_ledger_fails_no_call_of_the_next_process(tmp_path: Path, cell: int, value: int) -> None:
    path = tmp_path / "l"

    def serve() -> None:
        breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.open(f"file://{path}"))
        assert breaker.call(int) == 0
        for _ in range(4):
            with suppress(ZeroDivisionError, CircuitOpenError):
                breaker.call(divmod, 1, 0)
        breaker.control.evaluate()
        assert breaker.snapshot().totals.failures >= 3
        assert breaker.ledger.scope == "host"
        breaker.ledger.history()
        with pytest.raises(CircuitOpenError):
            breaker.call(int)
        breaker.control.reset(reason="test")

    in_a_process(serve)
    with path.open("r+b") as file:
        file.seek(cell * 8)
        file.write(value.to_bytes(8, sys.byteorder, signed=True))
    in_a_process(serve)


def in_a_process(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_lock_files_that_vanish_cost_no_call(tmp_path: Path) -> None:
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(tmp_path / "l"))
    shutil.rmtree(tmp_path / "l.locks")
    assert breaker.call(int) == 0
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)


def test_lock_files_that_were_removed_degrade_the_ledger(tmp_path: Path) -> None:
    clock = FakeClock()
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(tmp_path / "l"), clock=clock)
    breaker.call(int)
    (tmp_path / "l.locks").rename(tmp_path / "gone")
    clock.advance(1)
    breaker.control.evaluate()
    assert "was removed or replaced" in str(breaker.ledger.degraded)


def test_worker_on_a_damaged_ledger_uses_its_own_thresholds(tmp_path: Path) -> None:
    clock = FakeClock()
    path, config = tmp_path / "l", BreakerConfig(failure_threshold=7)
    breaker = CircuitBreaker("d", config, ledger=Ledger.in_file(path), clock=clock)
    with pytest.raises(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    with path.open("r+b") as file:
        for cell in (at.CONFIG, at.FAILED_TYPE):
            file.seek((at.HEADER + cell) * 8)
            file.write(b"\xff")
    assert breaker.snapshot().last_failure is None  # its checksum is another one
    assert CircuitBreaker("d", config, ledger=Ledger.in_file(path), clock=clock).config == config


def open_circuit(path: Path) -> None:
    """Open a circuit in a ledger. The caller then ends the process."""
    breaker = CircuitBreaker("d", BreakerConfig(failure_threshold=1), ledger=Ledger.in_file(path))
    with suppress(ZeroDivisionError):
        breaker.call(divmod, 1, 0)
    assert breaker.state is State.OPEN


def test_ledger_from_before_the_last_boot_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with workers(1) as processes:  # in a process that ends, so that the ledger is unused
        processes[0].call(open_circuit, path)
    with path.open("r+b") as file:
        file.seek(at.H_BOOT * 8)
        file.write((12345).to_bytes(8, sys.byteorder))
    assert Ledger.in_file(path).names() == []
