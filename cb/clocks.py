"""Clocks, and the rule for functions of the standard library that other packages replace.

gevent replaces functions that wait; tests replace functions that return the time.

- A monotonic clock measures waits that must end, and times that all processes of a host compare. It must never be a
  replacement: import it from this module.
- A wall clock only dates displayed text. It may be a replacement: call `wall` or `wall_ns`.
- A function that waits, locks or connects (`time.sleep`, `threading.Thread`, `queue.SimpleQueue`, `socket.socket`) must
  be the replacement, otherwise one greenlet would block all others. Write it with its module where it is used,
  `time.sleep(1)`; never `from time import sleep`, nor a default of a parameter, nor the base of a class.
"""

import os
import time
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from types import BuiltinFunctionType
from typing import Any


def _unpatched_time() -> Any:
    """Return a second instance of the module `time`, in which no name was replaced."""
    spec = BuiltinImporter.find_spec("time")
    if spec is None or spec.loader is None:
        return time
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_real = _unpatched_time()
#: nanoseconds of CLOCK_MONOTONIC
monotonic_ns: Callable[[], int] = _real.monotonic_ns
#: seconds of CLOCK_MONOTONIC
monotonic: Callable[[], float] = _real.monotonic
#: seconds for which the processor has run this thread
thread_time: Callable[[], float] = _real.thread_time
#: seconds of the clock with the highest resolution
perf_counter: Callable[[], float] = _real.perf_counter


def wall() -> float:
    """Return seconds since the epoch."""
    return time.time()


def wall_ns() -> int:
    """Return nanoseconds since the epoch."""
    return time.time_ns()


def timestamp(seconds: float) -> str:
    """Return a time since the epoch in ISO 8601, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def sleep(seconds: float) -> None:
    """Sleep without blocking other greenlets, if there are any."""
    time.sleep(seconds)


def spread(seconds: float, least: float, most: float) -> float:
    """Return the seconds times a random factor, so that hosts do not act together.

    Not of the module `random`: a program may have seeded it, and its import takes long.
    """
    return seconds * (least + (most - least) * int.from_bytes(os.urandom(7)) / (1 << 56))


def resolve_clock(clock: Callable[[], int]) -> Callable[[], int]:
    """Return the clock that was passed, or `monotonic_ns` if it is the system's, even if that was replaced since."""
    same = isinstance(clock, BuiltinFunctionType) and (clock.__module__, clock.__name__) == ("time", "monotonic_ns")
    return monotonic_ns if same else clock
