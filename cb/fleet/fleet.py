"""A host's membership in a fleet: which of its workers speaks for it, and for how long."""

import random
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

from cb.background.leader import Leader
from cb.background.watchdog import WATCHDOG
from cb.clocks import monotonic, monotonic_ns, wall_ns
from cb.config import parse_duration
from cb.errors import ConfigError, LedgerBusyError
from cb.events import Event, Listener, announce
from cb.handles import ProcessBound
from cb.ledger import layout as at
from cb.ledger.ledger import Ledger
from cb.log import Log

from .agent import Agent
from .connection import FleetError, check, redacted
from .server import Server

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

log = Log(__name__)

ROLE = "fleet"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
#: seconds until a server that does not answer is asked again, at first and at the most
RETRY, RETRY_MAX = 0.1, 2.0


class Fleet(ProcessBound):
    """Lets all hosts that name the same server and fleet share their breakers.

    Make one in every worker; it may be made before a fork. One of them is elected to be the host's agent, a thread that
    nobody waits for, and another takes over when it ends. Without the server each host goes on by itself. `url` is what
    `connect` takes; `name` keeps the fleets of different services apart; `sync_interval` is seconds, or a duration.
    Raises ConfigError. `listeners` hear of the changes of state that the fleet brings, in the agent's process.
    """

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        *,
        name: str,
        sync_interval: float | str = 0.1,
        listeners: Sequence[Listener] = (),
    ) -> None:
        check(url)
        if not _NAME.fullmatch(name):
            raise ConfigError("name", "be 1 to 64 letters, digits, dots, hyphens and underscores", name)
        seconds = parse_duration(sync_interval, "sync_interval")
        if not 0.01 <= seconds <= 10:
            raise ConfigError("sync_interval", "be from 10ms to 10s", sync_interval)
        #: the server's
        self.url = url
        #: the fleet's: hosts of the same name share their breakers
        self.name = name
        self._ledger = ledger
        self._interval = seconds
        self._listeners = listeners
        with suppress(LedgerBusyError):  # the agent does it too; but an operator may be quicker than that
            ledger.join_fleet()
        self._duty = Leader(ledger, ROLE, self._work, patience=1)

    def tick(self) -> None:
        """Become the host's agent, if it has none. The watch of this process does it a few times a second."""
        self._duty.tick()

    def close(self) -> None:
        """Leave the fleet, and the role to another worker. Returns when the agent has ended, or after a second."""
        self._duty.close()

    def _work(self, stop: threading.Event) -> None:
        wait = 0.0
        while not stop.wait(wait * _chance.uniform(0.5, 1)):  # spreads the hosts
            begin = monotonic()
            try:
                self._speak(stop)
            except FleetError as error:
                heard = self._ledger.header[at.H_LAST_SYNC] / 1e9
                if monotonic() - begin > RETRY_MAX and heard > begin:  # it did answer for a while
                    wait = 0.0
                if not wait:
                    log.warning("fleet %s: %s does not answer (%s)", self.name, redacted(self.url), error)
                wait = min(max(2 * wait, RETRY), RETRY_MAX)

    def _speak(self, stop: threading.Event) -> None:
        """Exchange until told to stop. Raises FleetError when the server does not answer."""
        server = Server(self.url, self.name)
        agent = Agent(
            server,
            self._ledger,
            sync_interval=self._interval,
            clock=monotonic_ns,
            wall_clock=wall_ns,
            tell=self._tell,
        )
        try:
            while not stop.is_set():
                WATCHDOG.start()  # each of the two threads begins the other anew, should that end
                agent.turn()
            server.hello(agent.host, lives=0)
        finally:
            server.close()

    def _tell(self, events: Iterable[Event]) -> None:
        announce(self._listeners, events)
