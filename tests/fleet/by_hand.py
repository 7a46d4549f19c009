"""A host without an agent thread: a test runs one synchronization after another."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Event, Ledger, State
from cb.fleet.agent import Agent
from cb.fleet.server import Server as Connection
from tests.support.failing import fail
from tests.support.redis_servers import Server

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


#: connections of the hosts of the running test, which ends them
CONNECTIONS: list[Connection] = []
#: Keys of breaker `d` on the server.
KEYS = {part: f"cb:{{f/d}}:{part}" for part in ("circuit", "hosts", "seen", "leases")}


class Clock:
    """The clock of this machine, which a test can advance for its hosts. The server's clock is not affected."""

    def __init__(self) -> None:
        self._ahead = 0

    def __call__(self) -> int:
        return time.monotonic_ns() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += round(seconds * 1e9)


class Host:
    """A host without an agent thread."""

    def __init__(
        self, server: Server | str, config: BreakerConfig = CONFIG, clock: Callable[[], int] | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.ledger = Ledger.in_memory()
        self.ledger.core.join_fleet()
        self.breaker = CircuitBreaker("d", config, ledger=self.ledger, clock=self.clock)
        #: events for the fleet's listeners
        self.events: list[Event] = []
        connection = Connection(server if isinstance(server, str) else server.url, "f")
        CONNECTIONS.append(connection)
        self.agent = Agent(
            connection,
            self.ledger,
            sync_interval=0.1,
            clock=self.clock,
            wall_clock=time.time_ns,
            emit=self.events.extend,
        )

    def sync(self, *names: str) -> "Host":
        self.agent.sync({"d", *names}, self.clock())
        return self

    @property
    def connected(self) -> bool:
        """True if the host follows its fleet."""
        view = self.ledger.core.fleet(self.clock())
        return view is not None and view.connected

    @property
    def unreachable(self) -> tuple[str, ...]:
        """The breakers without a valid reply of the server."""
        view = self.ledger.core.fleet(self.clock())
        return view.unreachable if view else ()

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.call(int)

    def fail(self, times: int = 1) -> None:
        fail(self.breaker, times)

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
    """Let the fleet of the hosts open."""
    for host in hosts:
        host.fail(2)
        host.sync()
    for host in hosts:
        host.sync()
        assert host.state is State.OPEN and host.breaker.snapshot().source == "fleet"


def pair(server: Server, clock: Clock | None = None, **settings: Any) -> tuple[list[Host], list[CircuitBreaker]]:
    """Return two hosts of a fleet, and their breakers `fine`, whose data is never damaged."""
    config, clock = replace(CONFIG, **settings), clock or Clock()
    hosts = [Host(server, config, clock) for _ in range(2)]
    fine = [CircuitBreaker("fine", config, ledger=host.ledger, clock=clock) for host in hosts]
    for host, breaker in zip(hosts, fine, strict=True):
        host.succeed()
        breaker.call(int)
        host.sync("fine")
    return hosts, fine


def in_fleet(hosts: list[Host], breakers: list[CircuitBreaker]) -> None:
    """Check that the fleet opens the breakers, on failures that are too few on each host alone."""
    for host, breaker in zip(hosts, breakers, strict=True):
        fail(breaker, 3)
        host.sync(breaker.name)
    for host in hosts:
        host.sync(breakers[0].name)
    assert [(each.state, each.snapshot().source) for each in breakers] == [(State.OPEN, "fleet")] * 2
    assert all(host.connected for host in hosts)


def closes(server: Server, hosts: list[Host], clock: Clock, lose: Callable[[], object]) -> bool:
    """Call and synchronize for 15 s while the server loses data. Return True if all circuits close."""
    for _ in range(60):
        for host in hosts:
            with suppress(CircuitOpenError):
                host.succeed()
            host.sync()
            lose()
        clock.advance(0.25)
        if server.stored("until"):
            server.client.hincrby(KEYS["circuit"], "until", -250)  # as if its clock had advanced too
        if all(host.state is State.CLOSED for host in hosts):
            return True
    return False
