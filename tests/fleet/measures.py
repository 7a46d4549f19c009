"""Functions that measurements run in worker processes."""

import threading
import time
from statistics import quantiles

from cb import CircuitOpenError, State
from cb.control import ACTIONS
from tests.fleet.inside import Here, fail

#: Seconds until a call of the dead dependency fails.
DEAD = 0.002
_never = threading.Event()


def dead() -> None:
    _never.wait(DEAD)
    raise ConnectionError


def undisturbed(begin: float, seconds: float) -> int:
    """Call the dead dependency without a breaker from `begin` on. Return the number of calls in that time."""
    _until(begin)
    calls = 0
    while time.monotonic() < begin + seconds:
        try:
            dead()
        except ConnectionError:
            calls += 1
    return calls


def drain(begin: float, seconds: float) -> tuple[int, float]:
    """Call the dead dependency through the breaker. Return the calls that reached it, and the time of the last."""
    _until(begin)
    reached, last = 0, begin
    while time.monotonic() < begin + seconds:
        try:
            Here.breaker.call(dead)
        except ConnectionError:
            reached, last = reached + 1, time.monotonic()
        except CircuitOpenError:
            _never.wait(DEAD)
    return reached, last - begin


def see(begin: float, state: State) -> tuple[float, float]:
    """Return `begin`, and the time when this process saw the state."""
    _until(begin)
    while Here.breaker.state is not state:
        if time.monotonic() > begin + 5:
            raise TimeoutError(f"{Here.breaker.state} and not {state}")
        _never.wait(0.001)
    return begin, time.monotonic()


def hold_and_see(begin: float, state: State) -> tuple[float, float]:
    """Force a state. Return the times of the command and of the state in this process."""
    _until(begin)
    now = time.monotonic()
    ACTIONS[state](Here.breaker.control, reason="measured")
    return now, see(now, state)[1]


def fail_and_see(begin: float, state: State) -> tuple[float, float]:
    """Make a failing call. Return the times of its end and of the state in this process."""
    _until(begin)
    fail(1)
    return see(time.monotonic(), state)


def probe_and_see(begin: float, state: State) -> tuple[float, float]:
    """Call until a call succeeds. Return the times of its end and of the state in this process."""
    _until(begin)
    while True:
        try:
            Here.breaker.call(int)
            break
        except CircuitOpenError:
            _never.wait(0.002)
    return see(time.monotonic(), state)


def burst(calls: int) -> tuple[float, float, float]:
    """Call a fast, healthy dependency. Return median, 99th percentile and maximum in nanoseconds."""
    guarded, clock = Here.breaker(int), time.perf_counter_ns
    times = []
    for _ in range(calls):
        begin = clock()
        guarded()
        times.append(clock() - begin)
    cuts = quantiles(times, n=100)
    return cuts[49], cuts[98], max(times)


def _until(moment: float) -> None:
    _never.wait(max(moment - time.monotonic(), 0))
