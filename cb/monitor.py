"""Checks the health of dependencies in the background, once per host.

Of all processes that share a ledger one is elected for each dependency, and checks it in a thread of its own, so that a
check that hangs delays no other. When the process ends, another one goes on within a second.
"""

import random
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

from .background.leader import Leader
from .background.watchdog import WATCHDOG
from .breaker import CircuitBreaker
from .clocks import monotonic_ns
from .config import parse_duration
from .errors import ConfigError
from .handles import ProcessBound
from .ledger.time_bounds import LONGEST_RESERVATION
from .state.deferred import require_done, require_now

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

#: seconds between two looks at whether it is time for a check, or for a probe
TICK = 0.1
#: seconds for which calls leave the probes to a monitor that says nothing more; longer than a check takes
LEASE = LONGEST_RESERVATION
#: share of the interval by which a check comes earlier or later, so that hosts do not come all at once
JITTER = 0.15
#: intervals after which what the last check found is not believed any more
STALE_AFTER_INTERVALS = 3

#: raises what hinders the dependency; must end by itself within a few seconds
Check = Callable[[], object]


class Monitor(ProcessBound):
    """Knows how the dependencies behind some breakers are, and lets their circuits recover by health check.

    Make one in every worker, before or after a fork, and keep it as long as it shall work. What it finds is in
    `breaker.health()` of every process, and a change is a HealthChanged for the breaker's listeners.
    """

    def __init__(self, *, clock: Callable[[], int] = monotonic_ns) -> None:
        self._clock = clock
        self._checkups: dict[str, _Checkup] = {}
        self._duties: list[Leader] = []
        self._started = False
        weakref.finalize(self, _release, self._duties).atexit = False

    def add(self, breaker: CircuitBreaker, check: Check, *, interval: float | str = 5.0, probes: bool = True) -> None:
        """Check a breaker's dependency every so often: seconds, or a duration. Raises ConfigError.

        With `probes` the checks, and no calls, are the probes of an open circuit while the monitor runs. A check
        counts for the circuit only then: a CLOSED circuit looks at its calls alone.
        """
        if breaker.name in self._checkups:
            raise ConfigError("breaker", "be added once", breaker.name)
        require_now(check)
        seconds = parse_duration(interval, "interval")
        if not 0.1 <= seconds <= 3600:
            raise ConfigError("interval", "be from 100ms to 1h", interval)
        checkup = self._checkups[breaker.name] = _Checkup(breaker, check, seconds, probes=probes, clock=self._clock)
        if self._started:
            self._duties.append(checkup.duty())

    def start(self) -> None:
        """Begin to check, as soon as this process is elected. A forked child begins with its first call."""
        if not self._started:
            self._started = True
            self._duties += [checkup.duty() for checkup in self._checkups.values()]
            WATCHDOG.add(self)
        WATCHDOG.start()

    def stop(self) -> None:
        """Leave the checks to other processes, for good. Does not wait for a check that runs."""
        _release(self._duties)

    def tick(self) -> None:
        """Begin with the checks that no process of the host does. The watch does it a few times a second."""
        for number, (duty, checkup) in enumerate(zip(self._duties, self._checkups.values(), strict=False)):
            if duty.closed or not checkup.moved(duty):
                duty.tick()
            else:
                duty.release()
                self._duties[number] = checkup.duty()

    def turn(self) -> None:
        """Do what is due now, in this thread. Without `start`, and on a clock of one's own, it is all that happens."""
        for checkup in self._checkups.values():
            checkup.turn()


class _Checkup:
    """The checks of one dependency."""

    def __init__(
        self, breaker: CircuitBreaker, check: Check, interval: float, *, probes: bool, clock: Callable[[], int]
    ) -> None:
        self._breaker = breaker
        self._check = check
        self._interval = interval
        self._probes = probes
        self._clock = clock
        self._wait = self._spread()

    def duty(self) -> Leader:
        """Return the checks as a duty. A process that ends does not wait for one that hangs."""
        return Leader(self._breaker.ledger, f"health-{self._breaker.index}", self._work, shutdown_timeout=0)

    def moved(self, duty: Leader) -> bool:
        """Return whether the breaker has gone to another ledger than that of a duty."""
        return duty.ledger is not self._breaker.ledger

    def turn(self) -> None:
        if self._probes:
            self._breaker.reserve_probes(LEASE)
            for _ in range(self._breaker.config.max_requests):
                if not self._breaker.probe(self._examine):
                    break
        health = self._breaker.health()
        if health is None or health.ago >= self._wait:
            with suppress(Exception):  # it has been noted
                self._examine()

    def _examine(self) -> None:
        """Check, and note what was found. Raises what the check raises."""
        self._wait, begin = self._spread(), self._clock()
        try:
            require_done(self._check())
        except Exception as error:
            self._note(error, begin)
            raise
        self._note(None, begin)

    def _note(self, error: Exception | None, begin: int) -> None:
        took = (self._clock() - begin) / 1e9
        self._breaker.note_health(error, took=took, valid=STALE_AFTER_INTERVALS * self._interval)

    def _spread(self) -> float:
        return self._interval * _chance.uniform(1 - JITTER, 1 + JITTER)  # spreads hosts

    def _work(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(TICK):
                WATCHDOG.start()  # each of the two threads begins the other anew, should that end
                self.turn()
        finally:
            if self._probes:
                self._breaker.reserve_probes(0)


def _release(duties: list[Leader]) -> None:
    for duty in duties:
        duty.release()
