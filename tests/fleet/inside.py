"""What the worker processes of a test do when told."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger
from cb.fleet import Fleet
from tests.fleet.traffic import Seen, Traffic


class Here:
    """What a worker process has."""

    breaker: CircuitBreaker
    fleet: Fleet | None = None
    again: Fleet
    traffic: Traffic


def make(path: Path, url: str | None, fleet: str, config: BreakerConfig) -> None:
    """Make what a service makes before its workers are forked."""
    ledger = Ledger.in_file(path)
    Here.breaker = CircuitBreaker("d", config, ledger=ledger)
    Here.fleet = Fleet(url, ledger, name=fleet) if url else None


def begin() -> None:
    """Begin to serve."""
    Here.breaker.ledger.join()
    if Here.fleet:
        Here.fleet.tick()  # at once, where the watch would do it in a quarter of a second: that is a third of a test


def fail(times: int) -> int:
    """Call the dependency while it is sick. Return how many calls reached it."""
    return sum(_reaches(divmod, 1, 0) for _ in range(times))


def succeed(times: int) -> int:
    """Call the dependency while it is well. Return how many calls reached it."""
    return sum(_reaches(int) for _ in range(times))


def crawl(times: int) -> int:
    """Call the dependency while it is slow. Return how many calls reached it."""
    return sum(_reaches(threading.Event().wait, 0.005) for _ in range(times))


def _reaches(fn: Callable[..., object], *args: float) -> bool:
    try:
        with suppress(ZeroDivisionError):
            Here.breaker.call(fn, *args)
    except CircuitOpenError:
        return False
    return True


def operate(method: str, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
    """Hold, reset or configure the breaker, as an operator."""
    getattr(Here.breaker, method)(*args, **settings)


def threshold(name: str) -> object:
    return getattr(Here.breaker.config, name)


def hang() -> None:
    """Call until a call is let through, and then never come back from it."""
    while not _reaches(threading.Event().wait):
        threading.Event().wait(0.002)


def wait() -> float:
    """Return in how many seconds the circuit may be tried."""
    return Here.breaker.snapshot().retry_after or 0


def explain() -> str:
    return Here.breaker.explain()


def reasons() -> list[str]:
    return [transition.reason for transition in Here.breaker.ledger.history()]


def agents() -> int:
    """Return how many threads of this process speak for its host."""
    return sum(thread.name == "cb-fleet" for thread in threading.enumerate())


def is_agent() -> bool:
    return agents() > 0


def join_again(url: str) -> None:
    """Make one more membership, as a second application of the same process does."""
    Here.again = Fleet(url, Here.breaker.ledger, name="f")
    Here.again.tick()


def leave() -> bool:
    """Close the membership. Return whether its thread has ended."""
    assert Here.fleet
    Here.fleet.close()
    return not is_agent()


def call_on(seconds: float) -> float:
    """Call for a while. Return how long the slowest call took."""
    start_traffic(sick=False, pause=0.0005)
    threading.Event().wait(seconds)
    return end_traffic().slowest


def start_traffic(sick: bool, pause: float = 0.001, latency: float = 0.0) -> None:
    """Call all the time, in a thread."""
    Here.traffic = Traffic(Here.breaker, sick=sick, pause=pause, latency=latency)
    Here.traffic.start()


def heal() -> None:
    """From now on the dependency answers."""
    Here.traffic.sick = False


def end_traffic() -> Seen:
    """Call no more. Return what has been seen."""
    return Here.traffic.end()


def fork() -> int:
    """Fork a worker that serves until it is killed, or for half a minute."""
    pid = os.fork()
    if pid == 0:
        try:
            begin()
            threading.Event().wait(30)
        finally:
            os._exit(0)
    return pid
