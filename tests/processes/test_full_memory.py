"""Ledgers on a file system that is full. docs/rules.md, rule 23."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cb.ledger import layout as at

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has memory:// only")


def test_full_memory_loses_no_count_and_no_call(tmp_path: Path) -> None:
    code = """
import sys
from cb import CircuitBreaker, Ledger
ledger = Ledger.in_file(sys.argv[1])
breaker, other = (CircuitBreaker("d", ledger=Ledger.in_file(sys.argv[1])) for _ in range(2))
assert breaker.call(int) == 0
assert other.snapshot().totals.successes == 1  # in the head, which has its memory
breaker.control.evaluate()
assert CircuitBreaker("more", ledger=ledger).call(int) == 0
print(ledger.degraded)
assert ledger.names() == ["d"]
"""
    # A file system of its own with room for the header and the head of one record, and for no shard.
    pages = (at.HEADER + at.PAGE) * 8 // 1024
    mount = f'mount -t tmpfs -o size={pages}k tmpfs "$1" && exec "$2" -c "$3" "$1/l"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "no memory for another page" in ran.stdout
    assert "counted one by one, and not visible while they run" in ran.stderr


def test_breaker_created_without_memory_is_shared_once_there_is_some(tmp_path: Path) -> None:
    code = """
import os, sys
from cb import CircuitBreaker, Ledger
from cb.breaker import admission_of
from cb.testing import FakeClock
clock, ledger = FakeClock(), Ledger.in_file(sys.argv[1] + "/l")
with open(sys.argv[1] + "/fills", "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)):
            pass
    except OSError:
        pass
breaker = CircuitBreaker("d", ledger=ledger, clock=clock)
breaker.call(int)
print(admission_of(breaker).circuit.apart, breaker.ledger.degraded)
os.unlink(sys.argv[1] + "/fills")
clock.advance(5)
breaker.control.evaluate()
breaker.call(int)
print(admission_of(breaker).circuit.apart, breaker.ledger.degraded, breaker.snapshot().totals.successes)
"""
    mount = 'mount -t tmpfs -o size=128k tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first.startswith("True") and "no memory for another page" in first
    assert second == "False None 1"
