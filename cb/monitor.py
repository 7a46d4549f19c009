"""Checks the health of dependencies in the background, once per host.

For each dependency, one of the processes that share a ledger is elected. It checks in a thread of its own, so that a
hanging check delays no other. When the process ends, another one takes over within a second.
"""

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from .background.leader import Leader
from .background.watchdog import WATCHDOG
from .breaker import CircuitBreaker, admission_of
from .clocks import monotonic_ns, spread
from .config import Duration, to_seconds
from .errors import ConfigError
from .handles import ProcessBound
from .health import read_health
from .health_probes import HealthProbes
from .ledger.time_bounds import MAX_RESERVATION_SECONDS
from .state.deferred import require_done, require_now

#: seconds between two looks at the time of the next check, or of a probe
TICK = 0.1
#: seconds for which a monitor reserves the probes; longer than a check takes
LEASE = MAX_RESERVATION_SECONDS
#: random share of the interval by which a check is early or late, so that hosts do not check at once
JITTER = 0.15
#: intervals after which the result of a check is unknown
VALID_INTERVALS = 3

#: raises if the dependency is down; must end by itself within a few seconds
Check = Callable[[], object]


class Monitor(ProcessBound):
    """Checks dependencies and lets their circuits recover by health check, so that no user's call is a probe.

    Create one in every worker, before or after a fork, and keep it as long as it shall work. Results are in
    `breaker.snapshot().health` of every process; a change is a HealthChanged for the breaker's listeners. `with
    Monitor() as monitor:` starts it and closes it.

    Args:
        clock: Returns monotonic nanoseconds.
    """

    def __init__(self, *, clock: Callable[[], int] = monotonic_ns) -> None:
        self._clock = clock
        self._checkups: dict[str, _Checkup] = {}
        self._leaders: list[Leader] = []
        self._started = False
        weakref.finalize(self, _release, self._leaders).atexit = False

    def __repr__(self) -> str:
        return f"<Monitor of {', '.join(map(repr, self._checkups)) or 'nothing'}, {self._stage}>"

    @property
    def _stage(self) -> str:
        if not self._started:
            return "not started"
        return "closed" if self._leaders and all(each.closed for each in self._leaders) else "started"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, breaker: CircuitBreaker, check: Check, *, interval: Duration = 5.0, probes: bool = True) -> None:
        """Check a breaker's dependency periodically.

        Args:
            breaker: A breaker of the dependency; one is added once.
            check: Raises if the dependency is down. Must end by itself within a few seconds.
            interval: Time between two checks, from 0.1 s to an hour.
            probes: True makes the checks the probes of an open circuit while the monitor runs, and no calls. A CLOSED
                circuit counts its calls alone.

        Raises:
            ConfigError: An argument breaks a rule.
        """
        if breaker.name in self._checkups:
            raise ConfigError("breaker", "be added once", breaker.name)
        require_now(check)
        seconds = to_seconds(interval, "interval")
        if not 0.1 <= seconds <= 3600:
            raise ConfigError("interval", "be from 0.1 s to an hour", interval)
        checkup = self._checkups[breaker.name] = _Checkup(breaker, check, seconds, probes=probes, clock=self._clock)
        if self._started:
            self._leaders.append(checkup.leader())

    def start(self) -> None:
        """Start to check, in the process of the host that is elected. A forked child starts with its first call."""
        if not self._started:
            self._started = True
            self._leaders += [checkup.leader() for checkup in self._checkups.values()]
            WATCHDOG.add(self)
        WATCHDOG.start()

    def close(self) -> None:
        """Leave the checks to other processes, for good. Does not wait for a running check."""
        _release(self._leaders)

    def tick(self) -> None:
        """Start the checks that no process of the host does. The watchdog calls it a few times a second."""
        for number, (leader, checkup) in enumerate(zip(self._leaders, self._checkups.values(), strict=False)):
            if leader.closed or not checkup.moved(leader):
                leader.tick()
            else:
                leader.release()
                self._leaders[number] = checkup.leader()

    def turn(self) -> None:
        """Run the checks that are due, in this thread. For tests on a clock of their own, without `start`."""
        for checkup in self._checkups.values():
            checkup.turn()


class _Checkup:
    """The checks of one dependency."""

    def __init__(
        self, breaker: CircuitBreaker, check: Check, interval: float, *, probes: bool, clock: Callable[[], int]
    ) -> None:
        self._breaker = breaker
        self._health = HealthProbes(breaker)
        self._check = check
        self._interval = interval
        self._probes = probes
        self._clock = clock
        self._wait = self._spread()

    def leader(self) -> Leader:
        """Return the election of the process that checks. A process that ends does not wait for a hanging check."""
        return Leader(self._health.ledger, f"health-{self._health.index}", self._work, shutdown_timeout=0)

    def moved(self, leader: Leader) -> bool:
        """Return True if the breaker has moved to another ledger than that of the election."""
        return leader.ledger.core is not self._health.ledger.core

    def turn(self) -> None:
        if self._probes:
            self._health.reserve(LEASE)
            for _ in range(self._breaker.config.max_requests):
                if not self._health.run(self._examine):
                    break
        circuit = admission_of(self._breaker).circuit
        health = read_health(circuit.head, circuit.clock())
        if health is None or health.ago >= self._wait:
            with suppress(Exception):  # it has been noted
                self._examine()

    def _examine(self) -> None:
        """Run the check and record its result. Raises the exception of the check."""
        self._wait, begin = self._spread(), self._clock()
        try:
            require_done(self._check())
        except Exception as error:
            self._note(error, begin)
            raise
        self._note(None, begin)

    def _note(self, error: Exception | None, begin: int) -> None:
        took = (self._clock() - begin) / 1e9
        self._health.note(error, took=took, valid=VALID_INTERVALS * self._interval)

    def _spread(self) -> float:
        return spread(self._interval, 1 - JITTER, 1 + JITTER)

    def _work(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(TICK):
                WATCHDOG.start()  # each of the two threads restarts the other, should it end
                self.turn()
        finally:
            if self._probes:
                self._health.reserve(0)


def _release(leaders: list[Leader]) -> None:
    for leader in leaders:
        leader.release()
