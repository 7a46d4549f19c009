"""Lock descriptors closed by another thread, or by a program that becomes a daemon. docs/rules.md, rule 24."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from cb import BreakerConfig, Bulkhead, CircuitBreaker, Ledger
from cb.ledger.locks import FileLock, claim

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="a list of the open descriptors: Linux")


@pytest.fixture
def breaker(tmp_path: Path) -> CircuitBreaker:
    return CircuitBreaker("d", BreakerConfig(), ledger=Ledger.in_file(tmp_path / "l"))


def test_lock_whose_descriptor_is_closed_while_it_is_held_fails_no_call(breaker: CircuitBreaker) -> None:
    lock = FileLock(f"{breaker.ledger.path}.locks/another")

    def close() -> int:
        close_all_of("another")
        return 7

    assert [lock.run(close, 0) for _ in range(3)] == [7, 7, 7]
    assert lock.run(int, 0) == 0


def close_all_of(name: str) -> None:
    """Close the descriptors of a file, as a program that becomes a daemon does."""
    for fd in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if fd.readlink().name == name:
                os.close(int(fd.name))


@pytest.mark.parametrize("times", [1, 2])
def test_permit_whose_descriptor_is_closed_is_taken_anyway(breaker: CircuitBreaker, times: int) -> None:
    bulkhead = Bulkhead(breaker, 1)
    for _ in range(times):
        assert bulkhead.call(int) == 0
        close_all_of("permit-0-0")
    with bulkhead:
        assert claim(f"{breaker.ledger.path}.locks/permit-0-0") is None


def test_daemon_that_closed_all_files_writes_into_none_that_it_opened(breaker: CircuitBreaker, tmp_path: Path) -> None:
    logs = [tmp_path / f"log{number}" for number in range(3)]
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 64)
        opened = [log.open("w") for log in logs]
        with suppress(ZeroDivisionError):
            breaker.call(divmod, 1, 0)
        os._exit(len(opened) - 3)
    assert os.waitpid(pid, 0)[1] == 0
    assert [log.stat().st_size for log in logs] == [0, 0, 0]
    assert breaker.snapshot().totals.failures == 1
