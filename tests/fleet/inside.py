"""Functions that tests run in worker processes."""

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
    """Objects of the worker process."""

    breaker: CircuitBreaker
    fleet: Fleet | None = None
    again: Fleet
    traffic: Traffic


def make(path: Path, url: str | None, fleet: str, config: BreakerConfig) -> None:
    """Create the objects that a service creates before its workers are forked."""
    ledger = Ledger.in_file(path)
    Here.breaker = CircuitBreaker("d", config, ledger=ledger)
    Here.fleet = Fleet(url, ledger, name=fleet) if url else None


def begin() -> None:
    """Start to work, as after the fork."""
    Here.breaker.ledger.join()
    if Here.fleet:
        Here.fleet.tick()  # at once: the watchdog would take a quarter of a second, a third of a test


def fail(times: int) -> int:
    """Make failing calls. Return the number that reached the dependency."""
    return sum(_reaches(divmod, 1, 0) for _ in range(times))


def succeed(times: int) -> int:
    """Make successful calls. Return the number that reached the dependency."""
    return sum(_reaches(int) for _ in range(times))


def crawl(times: int) -> int:
    """Make slow calls. Return the number that reached the dependency."""
    return sum(_reaches(threading.Event().wait, 0.005) for _ in range(times))


def _reaches(fn: Callable[..., object], *args: float) -> bool:
    try:
        with suppress(ZeroDivisionError):
            Here.breaker.call(fn, *args)
    except CircuitOpenError:
        return False
    return True


def operate(action: str, settings: dict[str, Any]) -> None:
    """Act on the breaker, as an operator."""
    getattr(Here.breaker.control, action)(**settings)


def threshold(name: str) -> object:
    return getattr(Here.breaker.config, name)


def hang() -> None:
    """Call until a call is admitted, which never returns."""
    while not _reaches(threading.Event().wait):
        threading.Event().wait(0.002)


def wait() -> float:
    """Return the seconds until the circuit may be probed."""
    return Here.breaker.snapshot().retry_after or 0


def explain() -> str:
    return Here.breaker.explain()


def reasons() -> list[str]:
    return [transition.reason for transition in Here.breaker.ledger.history()]


def agents() -> int:
    """Return the number of agent threads in this process."""
    return sum(thread.name == "cb-fleet" for thread in threading.enumerate())


def is_agent() -> bool:
    return agents() > 0


def join_again(url: str) -> None:
    """Create another membership, as a second application in the same process does."""
    Here.again = Fleet(url, Here.breaker.ledger, name="f")
    Here.again.tick()


def leave() -> bool:
    """Close the membership. Return True if its thread has ended."""
    assert Here.fleet
    Here.fleet.close()
    return not is_agent()


def call_on(seconds: float) -> float:
    """Call for a while. Return the duration of the slowest call."""
    start_traffic(sick=False, pause=0.0005)
    threading.Event().wait(seconds)
    return end_traffic().slowest


def start_traffic(sick: bool, pause: float = 0.001, latency: float = 0.0) -> None:
    """Start a thread that calls continuously."""
    Here.traffic = Traffic(Here.breaker, sick=sick, pause=pause, latency=latency)
    Here.traffic.start()


def heal() -> None:
    """Let the dependency recover."""
    Here.traffic.sick = False


def end_traffic() -> Seen:
    """Stop calling. Return the observations."""
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
