"""What worker processes do while a fleet is measured."""

import threading
import time
from statistics import quantiles

from cb import CircuitOpenError, State
from tests.fleet.inside import Here, fail

#: seconds that the dead dependency takes to say so
DEAD = 0.002
_never = threading.Event()


def dead() -> None:
    _never.wait(DEAD)
    raise ConnectionError


def undisturbed(begin: float, seconds: float) -> int:
    """Call the dead dependency without a breaker. Return how often, from `begin` on, in that time."""
    _until(begin)
    calls = 0
    while time.monotonic() < begin + seconds:
        try:
            dead()
        except ConnectionError:
            calls += 1
    return calls


def drain(begin: float, seconds: float) -> tuple[int, float]:
    """Call the dead dependency through the breaker. Return how many calls reached it, and when the last did."""
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
    """Return `begin`, and when this process saw the state."""
    _until(begin)
    while Here.breaker.state is not state:
        if time.monotonic() > begin + 5:
            raise TimeoutError(f"{Here.breaker.state} and not {state}")
        _never.wait(0.001)
    return begin, time.monotonic()


def hold_and_see(begin: float, state: State) -> tuple[float, float]:
    """Hold the circuit in a state. Return when that was, and when this process saw it."""
    _until(begin)
    now = time.monotonic()
    Here.breaker.hold(state, reason="measured")
    return now, see(now, state)[1]


def fail_and_see(begin: float, state: State) -> tuple[float, float]:
    """Let one call fail. Return when it had, and when this process saw the state."""
    _until(begin)
    fail(1)
    return see(time.monotonic(), state)


def probe_and_see(begin: float, state: State) -> tuple[float, float]:
    """Call until a call is admitted. Return when it had succeeded, and when this process saw the state."""
    _until(begin)
    while True:
        try:
            Here.breaker.call(int)
            break
        except CircuitOpenError:
            _never.wait(0.002)
    return see(time.monotonic(), state)


def burst(calls: int) -> tuple[float, float, float]:
    """Call a dependency that is quick and well. Return the median, the 99th percentile and the most, in nanoseconds."""
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
