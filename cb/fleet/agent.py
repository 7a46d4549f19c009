"""The exchange between a host and its fleet. One process of the host does it, for all breakers of the ledger."""

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from cb import layout as at
from cb.config import nanoseconds
from cb.deadlines import FLEET_LEASE
from cb.errors import LedgerBusyError
from cb.events import Event
from cb.ledger import Ledger

from .connection import FleetError
from .member import MS, SILENCE, Member
from .messages import Report
from .server import Server

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

log = logging.getLogger(__name__)

#: seconds between two looks at what the workers of this host want: while something goes on, and else
TICK, IDLE_TICK = 0.01, 0.05
#: seconds after the last exchange for which the fleet leads
LEAD = FLEET_LEASE
#: seconds between two greetings
GREET = 1.0
#: seconds in which everything is told anew, so that the server forgets nothing that is in use
REFRESH = 60.0
#: the share of a processor that looking at the tallies may take: with very many breakers it happens less often
SHARE = 0.05
#: exchanges of a breaker that follow each other at once: counts, a proposal, and what became of it
AT_ONCE = 3


class Agent:
    """What the elected process does. `turn` is one round of it; a thread repeats it."""

    def __init__(
        self,
        server: Server,
        ledger: Ledger,
        *,
        sync_interval: float,
        clock: Callable[[], int],
        wall_clock: Callable[[], int],
        tell: Callable[[Iterable[Event]], None],
    ) -> None:
        self._server = server
        self._ledger = ledger
        self._header = ledger.header
        self._interval = nanoseconds(sync_interval)
        self._clock = clock
        self._wall_clock = wall_clock
        self._tell = tell
        self._members: dict[str, Member] = {}
        self._transitions = 0
        self._busy = self._greeted = self._looked = self._pace = self._cost = 0
        # By breaker: when all is told anew, and until when the server is not asked, because it could not answer.
        self._refresh_at: dict[str, int] = {}
        self._broken: dict[str, int] = {}
        self._failed: set[str] = set()
        self.host = f"{ledger.join_fleet():016x}"

    def turn(self) -> None:
        """Wait a moment for news of other hosts; then exchange what there is to exchange. Raises FleetError."""
        active = self._clock() - self._busy < nanoseconds(GREET)
        news = self._server.changed(TICK if active else IDLE_TICK)
        now = self._clock()
        if not self._greeted or now - self._greeted >= nanoseconds(GREET):
            self._header[at.H_HOSTS] = self._server.hello(self.host)
            self._greeted = self._header[at.H_EXCHANGED] = now
        stirred = self._header[at.H_STIR] or self._header[at.H_EVENTS] != self._transitions
        if now - self._looked >= self._pace:
            self._looked = now
            self.exchange(news, now)
            self._pace = max(self._interval, round(self._cost / SHARE))
        elif news or stirred:
            self.exchange(news, now, urgent=True)

    def exchange(self, news: set[str], now: int, *, urgent: bool = False) -> None:
        """Tell the fleet what is new here, and follow it; for the breakers in `news` also if nothing is.

        Where it is urgent, those that can wait for their turn do. Raises FleetError.
        """
        self._header[at.H_STIR], self._transitions = 0, self._header[at.H_EVENTS]
        silence, reports = max(SILENCE, 3 * self._pace // MS), []
        for member in self._everyone(now):
            always = member.name in news or now >= self._refresh_at.get(member.name, 0)
            looked = (always or member.presses or not urgent) and now >= self._broken.get(member.name, 0)
            if looked and (report := member.report(now, always=always, silence=silence)):
                reports.append((member, report))
        if not urgent:
            self._cost = self._clock() - now
        for _ in range(AT_ONCE):
            if reports:
                reports = self._follow(reports)
        # Only now: a server that greets and answers nothing else must not lead.
        self._header[at.H_LEAD] = now + nanoseconds(LEAD)

    def _follow(self, reports: Sequence[tuple[Member, Report]]) -> list[tuple[Member, Report]]:
        """Exchange reports. Return those that must follow at once."""
        views = self._server.exchange(self.host, [(member.name, report) for member, report in reports])
        now = self._busy = self._header[at.H_EXCHANGED] = self._clock()
        for (member, report), view in zip(reports, views, strict=True):
            self._refresh_at[member.name] = 0
            if isinstance(view, FleetError):
                self._give_up(member, view, now)
                continue
            self._failed.discard(member.name)
            with suppress(LedgerBusyError):  # its holder may be stopped for good: the next exchange tries again
                self._tell(member.follow(report, view, now))
                self._refresh_at[member.name] = now + _spread(REFRESH)
        more = [(member, member.report(now, always=False)) for member, _ in reports if member.proposes]
        return [(member, report) for member, report in more if report]

    def _give_up(self, member: Member, error: FleetError, now: int) -> None:
        if member.name not in self._failed:
            self._failed.add(member.name)
            log.error("the fleet has no answer for breaker %s: %s", member.name, error)
        member.forget()
        self._broken[member.name] = now + nanoseconds(GREET)

    def _everyone(self, now: int) -> Iterable[Member]:
        if self._header[at.H_ROWS] != len(self._members):
            for name in self._ledger.names():
                if name not in self._members:
                    self._members[name] = Member(name, self._ledger, now, self._wall_clock)
        return self._members.values()


def _spread(seconds: float) -> int:
    """Return nanoseconds, up to half as many, so that hosts and breakers do not come all at once."""
    return nanoseconds(seconds * _chance.uniform(0.5, 1))
