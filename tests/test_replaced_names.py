"""Names of the standard library that other packages replace: functions that wait or connect, and clocks."""

import ast
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, Ledger, LedgerBusyError, Registry, State
from cb.breaker import admission_of
from cb.clocks import monotonic, monotonic_ns, perf_counter, wall, wall_ns
from cb.resilience.errors import StoreError
from cb.resilience.host_file import HostFile
from cb.testing import FakeClock
from tests.support import ROOT
from tests.support.sources import tree

LIBRARY = sorted((ROOT / "cb").rglob("*.py"))
#: modules whose functions and classes are replaced while a program runs
REPLACED = {"queue", "select", "selectors", "socket", "ssl", "threading", "time"}


def test_monotonic_clocks_are_never_replaced() -> None:
    # With a frozen clock a wait would not end.
    found = {path.stem for path in LIBRARY if re.search(r"\btime\.(monotonic|perf_c)", ast.unparse(tree(path)))}
    assert found == set()


def test_functions_that_wait_are_looked_up_at_the_call() -> None:
    found = []
    for path in LIBRARY:
        for node in ast.walk(tree(path)):
            bound: list[str] = []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module in REPLACED:
                bound = [alias.name for alias in node.names if not alias.name.isupper()]  # constants are not replaced
            if isinstance(node, ast.FunctionDef):
                defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
                bound = [text for each in defaults if (text := ast.unparse(each)).split(".")[0] in REPLACED]
            found += [f"{path}: {name}" for name in bound]
    assert found == []


@pytest.fixture(params=["seconds", "tick"])
def frozen(request: pytest.FixtureRequest) -> Any:
    """Freeze the clocks of the process, or advance them by one step at each read."""
    step = 0 if request.param == "seconds" else 1e-9
    with freeze_time("2030-01-01", auto_tick_seconds=step, ignore=["_pytest.timing"]) as clock:
        yield clock


def within(seconds: float, work: Callable[[], object]) -> object:
    """Return the result or the exception of a function; fail if it takes longer."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it is returned
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, "it waits for ever"
    return results[0]


def test_monotonic_clocks_run_while_the_clocks_of_the_program_are_frozen(frozen: Any) -> None:
    before = monotonic(), monotonic_ns(), perf_counter(), time.clock_gettime(time.CLOCK_MONOTONIC)
    threading.Event().wait(0.01)
    after = monotonic(), monotonic_ns(), perf_counter(), time.clock_gettime(time.CLOCK_MONOTONIC)
    assert all(later > earlier for earlier, later in zip(before, after, strict=True))
    assert abs(after[0] - after[3]) < 1 and abs(after[1] / 1e9 - after[3]) < 1
    assert abs(wall() - 1_893_456_000) < 10 and abs(wall_ns() / 1e9 - 1_893_456_000) < 10


def test_module_imported_while_the_clock_is_frozen_has_the_real_clock() -> None:
    program = """
from freezegun import freeze_time
import time
with freeze_time("2030-01-01"):
    from cb import Bulkhead, BulkheadFullError, CircuitBreaker, State, BreakerConfig
    bulkhead = Bulkhead(CircuitBreaker("d"), 1, wait=0.05)
    def waits():
        with bulkhead.guard():
            try: bulkhead.call(int)
            except BulkheadFullError: return "refused"
    print(waits())
breaker = CircuitBreaker("e", BreakerConfig(failure_threshold=1, timeout=0.01))
try: breaker.call(divmod, 1, 0)
except ZeroDivisionError: pass
time.sleep(0.05)
print(waits(), breaker.call(int), breaker.snapshot().totals.successes)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ran.stdout.split() == ["refused", "refused", "0", "1"], ran.stderr


def test_wait_for_the_lock_of_a_file_ends_while_the_clock_is_frozen(frozen: Any, tmp_path: Path) -> None:
    first, second = Ledger.in_file(tmp_path / "l"), Ledger.in_file(tmp_path / "l")

    def wait() -> object:
        return first.core.lock.run(lambda: within(5, lambda: second.core.lock.run(int, 0.05)), 1)

    assert isinstance(within(10, wait), LedgerBusyError)


def test_wait_for_a_bulkhead_ends_while_the_clock_is_frozen(frozen: Any) -> None:
    bulkhead = Bulkhead(CircuitBreaker("d"), 1, wait=0.05)
    with bulkhead.guard():
        assert isinstance(within(5, lambda: bulkhead.call(int)), BulkheadFullError)


def test_wait_for_a_bulkhead_ends_while_its_own_clock_stands_still() -> None:
    bulkhead = Bulkhead(CircuitBreaker("d", clock=FakeClock()), 1, wait=0.05, clock=FakeClock())
    with bulkhead.guard():
        assert isinstance(within(5, lambda: bulkhead.call(int)), BulkheadFullError)


def test_wait_for_a_host_file_ends_while_the_clock_is_frozen(frozen: Any, tmp_path: Path) -> None:
    path, tables = tmp_path / "f", ("CREATE TABLE IF NOT EXISTS t (x)",)
    first, second = HostFile(path, tables, 0.05), HostFile(path, tables, 0.05)
    assert first.read("SELECT count(*) FROM t") == (0,)

    def wait(_: Any) -> object:
        return within(5, lambda: second.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)")))

    assert isinstance(within(10, lambda: first.write(wait)), StoreError)


def test_breaker_created_while_the_clock_is_frozen_is_supervised_and_recovers(frozen: Any) -> None:
    config = BreakerConfig(failure_threshold=1, timeout=0.02, call_timeout=0.02, timeout_jitter=0)
    for breaker in (CircuitBreaker("d", config), Registry(defaults=config).get("d")):
        release = threading.Event()
        thread = threading.Thread(target=breaker.call, args=(release.wait, 10))
        thread.start()
        # There is no other call: the watchdog alone detects the hanging call.
        assert within(5, lambda breaker=breaker: opened(breaker)) is True
        release.set()
        thread.join()
        assert within(5, lambda breaker=breaker: recovered(breaker)) == 7


def opened(breaker: CircuitBreaker) -> bool:
    while breaker.state is State.CLOSED:
        threading.Event().wait(0.01)
    return True


def recovered(breaker: CircuitBreaker) -> int:
    while (breaker.snapshot().retry_after or 0) > 0:
        threading.Event().wait(0.01)
    return breaker.call(abs, -7)


def test_clock_of_the_system_is_replaced_by_the_unpatched_one() -> None:
    breaker = CircuitBreaker("d", clock=time.monotonic_ns)
    with freeze_time("2030-01-01"):
        assert admission_of(breaker).circuit.clock is monotonic_ns
