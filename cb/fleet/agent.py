"""The exchange between a host and its fleet. One process of the host does it, for all breakers of the ledger."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from cb.config import nanoseconds
from cb.errors import LedgerBusyError
from cb.events import Event, LedgerDegraded
from cb.ledger import layout as at
from cb.ledger.ledger import Ledger
from cb.ledger.time_bounds import FLEET_LEASE
from cb.log import Log

from .connection import FleetError
from .member import MS, SILENCE, Member
from .messages import Reply, Report
from .server import Server

# Not what `random` itself draws from: a thread of ours must not disturb a program that has seeded it.
_chance = random.SystemRandom()

log = Log(__name__)

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
#: news of a breaker that are answered at once between two looks; after more of them it waits for its turn
NEWS = 2


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
        self._rows = self._transitions = 0
        self._busy = self._greeted = self._looked = self._pace = self._cost = 0
        # When the server has last given an answer that makes sense, and its last fault.
        self._answered = clock()
        self._fault: FleetError | None = None
        # News since the last look: what has been asked about at once, and what waits.
        self._asked: Counter[str] = Counter()
        self._waiting: set[str] = set()
        # By breaker: when all is told anew, and until when the server is not asked, because it could not answer.
        self._refresh_at: dict[str, int] = {}
        self._broken: dict[str, int] = {}
        self._failed: set[str] = set()
        self._said: dict[str, int] = {}
        self.host = f"{ledger.join_fleet():016x}"

    def turn(self) -> None:
        """Wait a moment for news of other hosts; then exchange what there is to exchange. Raises FleetError."""
        active = self._clock() - self._busy < nanoseconds(GREET)
        news = self._news(self._server.changed(TICK if active else IDLE_TICK))
        now = self._clock()
        if not self._greeted or now - self._greeted >= nanoseconds(GREET):
            self._greet(now)
        woken = self._header[at.H_WAKE_AGENT] or self._header[at.H_EVENTS] != self._transitions
        if now - self._looked >= self._pace:
            self._looked = now
            news, self._waiting = news | self._waiting, set()
            self._asked.clear()
            self.sync(news, now)
            self._pace = max(self._interval, round(self._cost / SHARE))
        elif news or woken:
            self.sync(news, now, urgent=True)
        if not self._hears(now):
            raise FleetError(f"no answer that makes sense: {self._fault}")

    def sync(self, news: set[str], now: int, *, urgent: bool = False) -> None:
        """Tell the fleet what is new here, and follow it; for the breakers in `news` also if nothing is.

        Where it is urgent, those that can wait for their turn do. What is wrong with one breaker, here or on the
        server, hinders no other. Raises FleetError if it does not answer at all.
        """
        self._header[at.H_WAKE_AGENT], self._transitions = 0, self._header[at.H_EVENTS]
        silence, reports = max(SILENCE, 3 * self._pace // MS), []
        for member in self._everyone(now):
            always = member.name in news or now >= self._refresh_at.get(member.name, 0)
            looked = (always or member.presses or not urgent) and now >= self._broken.get(member.name, 0)
            if looked and (report := self._report(member, now, always=always, silence=silence)):
                reports.append((member, report))
        if not urgent:
            self._cost = self._clock() - now
        for _ in range(AT_ONCE):
            if reports:
                reports = self._follow(reports)
        # Only now: a server that greets and answers nothing else must not lead.
        if self._hears(now) and (not self._members or self._members.keys() - self._failed):
            self._header[at.H_FLEET_LEASE_UNTIL] = now + nanoseconds(LEAD)

    def _hears(self, now: int) -> bool:
        """Return whether the server has lately given an answer that makes sense."""
        return now - self._answered <= nanoseconds(LEAD)

    def _news(self, changed: set[str] | None) -> set[str]:
        """Return the breakers that are asked about at once. The news of the others wait for the next look."""
        if changed is None:
            self._waiting = set(self._members)
            return set()
        known = changed & self._members.keys()
        news = {name for name in known if self._asked[name] < NEWS}
        self._asked.update(news)
        self._waiting |= known - news
        return news

    def _greet(self, now: int) -> None:
        hosts = self._server.hello(self.host)
        self._greeted = now
        if isinstance(hosts, FleetError):
            self._fault, self._header[at.H_HOSTS] = hosts, 0
            self._refresh_at.clear()  # then it is the breakers that tell whether the server answers
            self._say("", now, "how many hosts the fleet has is not known: %s", hosts)
        else:
            self._header[at.H_HOSTS] = hosts
            self._answered = self._header[at.H_LAST_SYNC] = now

    def _report(self, member: Member, now: int, *, always: bool, silence: int = SILENCE) -> Report | None:
        try:
            return member.report(now, always=always, silence=silence)
        except Exception as error:  # noqa: BLE001 - its row of the ledger may be damaged
            self._give_up(member, error, now)
            return None

    def _follow(self, reports: Sequence[tuple[Member, Report]]) -> list[tuple[Member, Report]]:
        """Exchange reports. Return those that must follow at once."""
        replies = self._server.sync(self.host, [(member.name, report) for member, report in reports])
        now = self._busy = self._clock()
        for (member, report), reply in zip(reports, replies, strict=True):
            self._refresh_at[member.name] = 0
            try:
                self._take(member, report, reply, now)
            except LedgerBusyError:  # its holder may be stopped for good: the next exchange tries again
                pass
            except Exception as error:  # noqa: BLE001 - and so may that
                self._give_up(member, error, now)
        more = [(member, self._report(member, now, always=False)) for member, _ in reports if member.proposes]
        return [(member, report) for member, report in more if report]

    def _take(self, member: Member, report: Report, reply: Reply | FleetError, now: int) -> None:
        if isinstance(reply, FleetError):
            self._fault = reply
            raise reply
        self._answered = self._header[at.H_LAST_SYNC] = now
        self._tell(member.follow(report, reply, now))
        if member.back_off_seconds:
            raise FleetError("the server has lost each round of probes")
        self._refresh_at[member.name] = now + _spread(REFRESH)
        if reply.damaged:
            what = f"what the server had stored makes no sense ({reply.damaged}), and is stored anew"
            self._say(member.name, now, "fleet, breaker %s: %s", member.name, what)
        elif member.name in self._failed:
            self._failed.discard(member.name)
            log.info("breaker %s follows its fleet again", member.name)

    def _give_up(self, member: Member, error: Exception, now: int) -> None:
        """Let the host decide for itself about a breaker, and leave the server alone with it for a while."""
        self._failed.add(member.name)
        self._broken[member.name] = now + nanoseconds(max(GREET, member.back_off_seconds))
        member.forget()
        if not isinstance(error, FleetError):
            member.join_anew()
        reason = str(error) if isinstance(error, FleetError) else repr(error)
        self._say(member.name, now, "the fleet has no answer for breaker %s: %s", member.name, reason)

    def _say(self, name: str, now: int, message: str, *args: object) -> None:
        """Log what is wrong, and tell listeners if it is wrong with a breaker: about each once, and once in a while."""
        if name in self._said and now - self._said[name] < nanoseconds(REFRESH):
            return
        self._said[name] = now
        log.error(message, *args)
        if name:
            self._tell([LedgerDegraded(name, message % args)])

    def _everyone(self, now: int) -> Iterable[Member]:
        if self._header[at.H_RECORDS] != self._rows:
            rows = self._header[at.H_RECORDS]
            for name in self._ledger.names():
                if name not in self._members and not self._add(name, now):
                    rows = -1  # the next look tries again
            self._rows = rows
        return list(self._members.values())

    def _add(self, name: str, now: int) -> bool:
        try:
            self._members[name] = Member(name, self._ledger, now, self._wall_clock)
        except Exception as error:  # noqa: BLE001 - its row of the ledger may be damaged
            self._say(name, now, "breaker %s cannot join its fleet: %r", name, error)
            return False
        return True


def _spread(seconds: float) -> int:
    """Return nanoseconds, up to half as many, so that hosts and breakers do not come all at once."""
    return nanoseconds(seconds * _chance.uniform(0.5, 1))
