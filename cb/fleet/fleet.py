"""Membership of a host in a fleet: the election of its agent, and the agent's thread."""

import random
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from cb.background.leader import Leader
from cb.background.watchdog import WATCHDOG
from cb.clocks import monotonic, monotonic_ns, wall_ns
from cb.config import Duration, to_seconds
from cb.errors import ConfigError, LedgerBusyError
from cb.event_log import log_events
from cb.events import Event, Listener, announce
from cb.handles import ProcessBound
from cb.ledger import layout as at
from cb.ledger.ledger import Ledger
from cb.log import Log

from .agent import Agent
from .connection import FleetError, check, redacted
from .server import Server

# A generator of its own: a thread of the library must not disturb a program that has seeded `random`.
_random = random.SystemRandom()

log = Log(__name__)

#: Name of the agent's role in the ledger's election.
ROLE = "fleet"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
#: Seconds until the next attempt after the server did not reply: at first, and at most.
RETRY, RETRY_MAX = 0.1, 2.0


class Fleet(ProcessBound):
    """Membership of a host in a fleet: hosts with the same server and fleet name share their breakers.

    Create one in every worker, before or after the fork. One worker of the host is elected as its agent: a background
    thread synchronizes the ledger with the server, and no call waits for it. When the agent's process ends, another
    worker takes over. While the server is unavailable, each host decides by its own ledger.

    Args:
        url: URL of the server: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`.
        ledger: The ledger of this host.
        name: Name of the fleet: 1 to 64 letters, digits, dots, hyphens and underscores. Breakers with the same name in
            the same fleet are one breaker; services that must not share breakers need different names.
        sync_interval: Time between two synchronizations of a host, in seconds or as a timedelta: 0.01 to 10 s.
        listeners: Callables that receive the events caused by the fleet, in the agent's process.

    Raises:
        ConfigError: The URL, the name or the interval is invalid.
    """

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        *,
        name: str,
        sync_interval: Duration = 0.1,
        listeners: Sequence[Listener] = (),
    ) -> None:
        check(url)
        if not _NAME.fullmatch(name):
            raise ConfigError("name", "be 1 to 64 letters, digits, dots, hyphens and underscores", name)
        #: URL of the server
        self.url = url
        #: name of the fleet
        self.name = name
        self._ledger = ledger
        self._sync_interval = _seconds(sync_interval)
        self._listeners = listeners
        with suppress(LedgerBusyError):  # the agent joins too, but an operator's command may come before it
            ledger.core.join_fleet()
        self._leader = Leader(ledger, ROLE, self._work, shutdown_timeout=1)

    def __repr__(self) -> str:
        return f"<Fleet {self.name!r} at {redacted(self.url)}, {'closed' if self._leader.closed else 'open'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def tick(self) -> None:
        """Become the host's agent if it has none. The watchdog of this process calls this a few times a second."""
        self._leader.tick()

    def close(self) -> None:
        """Leave the fleet, and leave the agent's role to another worker.

        Returns when the agent's thread has ended, or after a second.
        """
        self._leader.close()

    def _work(self, stop: threading.Event) -> None:
        wait = 0.0
        while not stop.wait(wait * _random.uniform(0.5, 1)):  # jitter, so that hosts do not reconnect together
            begin = monotonic()
            try:
                self._synchronize(stop)
            except FleetError as error:
                last_sync = self._ledger.core.header[at.H_LAST_SYNC] / 1e9
                if monotonic() - begin > RETRY_MAX and last_sync > begin:  # the server did reply for a while
                    wait = 0.0
                if not wait:
                    log.warning("fleet %s: %s does not answer (%s)", self.name, redacted(self.url), error)
                wait = min(max(2 * wait, RETRY), RETRY_MAX)

    def _synchronize(self, stop: threading.Event) -> None:
        """Synchronize with the server until `stop` is set. Raises FleetError when the server does not reply."""
        server = Server(self.url, self.name)
        agent = Agent(
            server,
            self._ledger,
            sync_interval=self._sync_interval,
            clock=monotonic_ns,
            wall_clock=wall_ns,
            emit=self._emit,
        )
        try:
            while not stop.is_set():
                WATCHDOG.start()  # each of the two threads restarts the other, should it have ended
                agent.run_once()
            server.heartbeat(agent.host, ttl=0)
        finally:
            server.close()

    def _emit(self, events: Sequence[Event]) -> None:
        log_events(events)
        announce(self._listeners, events)


def _seconds(interval: Duration) -> float:
    rule = "be from 0.01 to 10 seconds, or such a timedelta"
    seconds = to_seconds(interval, "sync_interval", rule)
    if not 0.01 <= seconds <= 10:
        raise ConfigError("sync_interval", rule, interval)
    return seconds
