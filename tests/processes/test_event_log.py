"""The log lines of a program that configures no logging."""

import subprocess
import sys


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
