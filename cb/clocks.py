"""Which functions of the standard library may be replaced under us, and which may not.

Others replace names: gevent those that wait, tests those that tell the time.

- A monotonic clock measures waits that must end, and times that all processes of a host compare: it is never replaced.
  Import it from here.
- A wall clock only dates what is shown: it is the one in force. Call `wall` or `wall_ns`.
- What waits, locks or connects (`time.sleep`, `threading.Thread`, `queue.SimpleQueue`, `socket.socket`) is the one in
  force, or one greenlet would hold up all others: name it by its module where it is used, `time.sleep(1)`, never
  `from time import sleep`, nor as a default of a parameter, nor as the base of a class.
"""

import time
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from types import BuiltinFunctionType
from typing import Any


def _untouched() -> Any:
    """Return the module `time` once more: whoever replaces names has never seen it, even if that was done before."""
    spec = BuiltinImporter.find_spec("time")
    if spec is None or spec.loader is None:
        return time
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_real = _untouched()
#: nanoseconds of CLOCK_MONOTONIC
monotonic_ns: Callable[[], int] = _real.monotonic_ns
#: seconds of CLOCK_MONOTONIC
monotonic: Callable[[], float] = _real.monotonic
#: seconds of the clock that measures short times best
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
    """Sleep as is done here: without holding up other greenlets, where there are any."""
    time.sleep(seconds)


def chosen(clock: Callable[[], int]) -> Callable[[], int]:
    """Return a clock that somebody passes, or ours if it is the system's, also where that has been replaced since."""
    same = isinstance(clock, BuiltinFunctionType) and (clock.__module__, clock.__name__) == ("time", "monotonic_ns")
    return monotonic_ns if same else clock
