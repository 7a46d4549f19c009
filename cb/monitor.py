"""Checks the health of dependencies in the background, once per host.

Of all processes that share a ledger one is elected for each dependency, and checks it in a thread of its own, so that a
check that hangs delays no other. When the process ends, another one goes on within a second.
"""

import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from .breaker import CircuitBreaker
from .config import parse_duration
from .errors import ConfigError
from .watch import WATCH

log = logging.getLogger(__name__)

#: seconds between two looks at whether it is time for a check, or for a probe
TICK = 0.1
#: seconds for which calls leave the probes to a monitor that says nothing more; longer than a check takes
LEASE = 10.0
#: share of the interval by which a check comes earlier or later, so that hosts do not come all at once
JITTER = 0.15
#: intervals after which what the last check found is not believed any more
PATIENCE = 3

#: raises what hinders the dependency; must end by itself within a few seconds
Check = Callable[[], object]


class Monitor:
    """Knows how the dependencies behind some breakers are, and lets their circuits recover by health check.

    Make one in every worker, before or after a fork, and keep it as long as it shall work. What it finds is in
    `breaker.health()` of every process, and a change is a HealthChanged for the breaker's listeners.
    """

    def __init__(self, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._checkups: dict[str, _Checkup] = {}
        _monitors.add(self)
        weakref.finalize(self, _stop_all, self._checkups).atexit = False

    def add(self, breaker: CircuitBreaker, check: Check, *, interval: float | str = 5.0, probes: bool = True) -> None:
        """Check a breaker's dependency every so often: seconds, or a duration. Raises ConfigError.

        With `probes` the checks, and no calls, are the probes of an open circuit while the monitor runs. A check
        counts for the circuit only then: a CLOSED circuit looks at its calls alone.
        """
        if breaker.name in self._checkups:
            raise ConfigError("breaker", "be added once", breaker.name)
        seconds = parse_duration(interval, "interval")
        if not 0.1 <= seconds <= 3600:
            raise ConfigError("interval", "be from 100ms to 1h", interval)
        self._checkups[breaker.name] = _Checkup(breaker, check, seconds, probes=probes, clock=self._clock)

    def start(self) -> None:
        """Begin to check, as soon as this process is elected. A forked child begins with its first call."""
        WATCH.add(self)
        WATCH.start()

    def stop(self) -> None:
        """Leave the checks to other processes, for good. Does not wait for a check that runs."""
        for checkup in self._all():
            checkup.stop()

    def tend(self) -> None:
        """Begin with the checks that no process of the host does. The watch asks a few times a second."""
        for checkup in self._all():
            checkup.tend()

    def turn(self) -> None:
        """Do what is due now, in this thread. Without `start`, and on a clock of one's own, it is all that happens."""
        for checkup in self._all():
            checkup.turn()

    def renew(self) -> None:
        """Start over in a forked child, without the parent's threads."""
        for checkup in self._all():
            checkup.renew()

    def _all(self) -> "list[_Checkup]":
        return list(self._checkups.values())


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
        self._role = f"health-{breaker.index}"
        self._wait = self._spread()
        self._stopped = False
        self.renew()

    def renew(self) -> None:
        self._lock = threading.RLock()  # a signal handler or a finalizer may stop it
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def tend(self) -> None:
        with self._lock:
            busy = self._stopped or (self._thread and self._thread.is_alive())
            if busy or not self._breaker.ledger.elect(self._role):
                return
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="cb-health", daemon=True)
            try:
                self._thread.start()
                return
            except RuntimeError as failed:  # no thread left, or the interpreter ends: somebody tries again
                self._breaker.ledger.resign(self._role)
                error = failed
        log.warning("nobody checks the health of %s: %s", self._breaker.name, error)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._stop.set()

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
            self._check()
        except Exception as error:
            self._note(error, begin)
            raise
        self._note(None, begin)

    def _note(self, error: Exception | None, begin: int) -> None:
        took = (self._clock() - begin) / 1e9
        self._breaker.note_health(error, took=took, valid=PATIENCE * self._interval)

    def _spread(self) -> float:
        return self._interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads hosts, keeps no secret

    def _run(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(TICK):
                try:
                    self.turn()
                except Exception:
                    log.exception("checking the health of %s failed", self._breaker.name)
        finally:
            if self._probes:
                self._breaker.reserve_probes(0)
            self._breaker.ledger.resign(self._role)


def _stop_all(checkups: dict[str, _Checkup]) -> None:
    for checkup in list(checkups.values()):
        checkup.stop()


_monitors: weakref.WeakSet[Monitor] = weakref.WeakSet()


def _renew_all() -> None:
    for monitor in list(_monitors):
        monitor.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
