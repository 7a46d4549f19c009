"""A host whose agent does nothing by itself: a test makes one exchange after another."""

import threading
import time
from contextlib import suppress

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, State
from cb.fleet.agent import Agent
from cb.fleet.server import Server as Connection

from .servers import Server

CONFIG = BreakerConfig(
    interval=5,
    timeout=0.1,
    timeout_jitter=0,
    minimum_requests=4,
    failure_threshold=None,
    slow_call_rate_threshold=None,
    max_requests=2,
    success_threshold=1,
)


class Host:
    """A host whose agent does nothing by itself."""

    def __init__(self, server: Server, config: BreakerConfig = CONFIG) -> None:
        self.ledger = Ledger.in_memory()
        self.ledger.join_fleet()
        self.breaker = CircuitBreaker("d", config, ledger=self.ledger)
        self.agent = Agent(
            Connection(server.url, "f"),
            self.ledger,
            sync_interval=0.1,
            clock=time.monotonic_ns,
            wall_clock=time.time_ns,
            tell=lambda _: None,
        )

    def exchange(self, *names: str) -> "Host":
        self.agent.exchange({"d", *names}, time.monotonic_ns())
        return self

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.call(int)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            with suppress(ZeroDivisionError):
                self.breaker.call(divmod, 1, 0)

    @property
    def state(self) -> State:
        return self.breaker.state

    def refused(self) -> bool:
        try:
            self.breaker.call(int)
        except CircuitOpenError:
            return True
        return False


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def opened(*hosts: Host) -> None:
    """Bring the fleet of the hosts into OPEN."""
    for host in hosts:
        host.fail(2)
        host.exchange()
    for host in hosts:
        host.exchange()
        assert host.state is State.OPEN and host.breaker.snapshot().source == "fleet"
