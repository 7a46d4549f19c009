"""A ledger opened by root before workers switch users (`gunicorn --user`). docs/rules.md, rules 13, 14 and 24."""

import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cb import BreakerConfig, Bulkhead, CircuitBreaker, CircuitOpenError, Ledger, Registry, State
from cb.ledger.paths import shared_directory
from tests.support.failing import fail

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may change its user")
CONFIG = BreakerConfig(failure_threshold=3, failure_rate_threshold=None, timeout=60)


@pytest.fixture(autouse=True)
def shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create each user's ledgers in shared memory: other users cannot read the directory of a test run."""
    monkeypatch.delenv("CB_STATE_DIR", raising=False)


@pytest.fixture
def name() -> Iterator[str]:
    """Yield the name of a ledger in shared memory, in which each user has a directory."""
    name = f"test-user-{os.getpid()}"
    yield name
    for directory in Path("/dev/shm").glob("cb-*"):
        for each in directory.glob(f"{name}.*"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def as_nobody(work: Callable[[], None]) -> int:
    """Run a function in a forked child with another user. Return the exit code, 14 if it hung."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(pwd.getpwnam("nobody").pw_uid)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_workers_that_change_their_user_share_the_ledger_of_the_new_user(name: str) -> None:
    registry = Registry(ledger=Ledger.open(f"shm://{name}", shared_directory()), defaults=CONFIG)
    for each in ("first", "vendor", "last"):
        registry.get(each)
    vendor = registry.get("vendor")
    guarded = vendor(divmod)

    def open_it() -> None:
        assert vendor.ledger.degraded is None
        fail(vendor, 2)
        with suppress(ZeroDivisionError):
            guarded(1, 0)
        assert vendor.state is State.OPEN
        assert f"cb-{os.geteuid()}/" in vendor.ledger.path
        assert vendor.config == CONFIG

    def find_it_open() -> None:
        with pytest.raises(CircuitOpenError):
            guarded(1, 1)
        assert guarded is not None
        assert vendor.snapshot().totals.failures == 3
        assert registry.get("last").call(int) == 0

    assert as_nobody(open_it) == 0
    assert as_nobody(find_it_open) == 0
    assert vendor.state is State.CLOSED  # in root's ledger


def test_records_in_another_order_are_found_by_their_names(name: str) -> None:
    def serve_before() -> None:
        ledger = Ledger.open(f"shm://{name}")
        for each in ("z", "y", "x"):
            fail(CircuitBreaker(each, CONFIG, ledger=ledger), 3 if each == "y" else 0)

    assert as_nobody(serve_before) == 0
    breakers = {each: CircuitBreaker(each, CONFIG, ledger=Ledger.open(f"shm://{name}")) for each in ("w", "x", "y")}
    ledger = Ledger.open(f"shm://{name}")
    breakers = {each: CircuitBreaker(each, CONFIG, ledger=ledger) for each in ("w", "x", "y")}
    bulkhead = Bulkhead(breakers["x"], 1)

    def serve() -> None:
        assert bulkhead.call(int) == 0
        assert [breakers[each].call(int) for each in ("w", "x")] == [0, 0]
        with pytest.raises(CircuitOpenError):
            breakers["y"].call(int)
        assert ledger.names() == ["z", "y", "x", "w"]
        assert {each: breaker.snapshot().totals.requests for each, breaker in breakers.items()} == {
            "w": 1,
            "x": 2,
            "y": 3,
        }

    assert as_nobody(serve) == 0


def test_thresholds_of_this_release_are_in_force_in_a_ledger_of_an_earlier_release(name: str) -> None:
    def serve_before() -> None:
        fail(CircuitBreaker("d", replace(CONFIG, failure_threshold=9), ledger=Ledger.open(f"shm://{name}")), 1)

    def serve() -> None:
        fail(breaker, 2)
        assert breaker.state is State.OPEN
        found = Registry(ledger=Ledger.open(f"shm://{name}")).control("d")
        assert found is not None
        assert found.config == CONFIG

    assert as_nobody(serve_before) == 0
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.open(f"shm://{name}"))
    assert as_nobody(serve) == 0


def test_ledger_that_the_new_user_cannot_use_degrades_with_a_reason() -> None:
    with tempfile.TemporaryDirectory() as directory:
        breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.open(f"file://{directory}/l"))

        def serve() -> None:
            fail(breaker, 3)
            with pytest.raises(CircuitOpenError):
                breaker.call(int)
            assert breaker.ledger.scope == "process"
            assert "Permission denied" in str(breaker.ledger.degraded)
            assert breaker.snapshot().totals.failures == 3
            assert breaker.config == CONFIG

        assert as_nobody(serve) == 0
        assert breaker.snapshot().totals.requests == 0


def test_process_that_has_called_before_keeps_its_ledger_under_another_user(name: str) -> None:
    def serve() -> None:
        breaker.call(time.sleep, 0)
        assert breaker.ledger.path == path

    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.open(f"shm://{name}"))
    path = breaker.ledger.path
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            breaker.call(int)
            os.setuid(65534)
            serve()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert breaker.snapshot().totals.requests == 2
