"""The agent: one process of the host synchronizes all breakers of its ledger with the fleet's server."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from cb.config import nanoseconds
from cb.errors import LedgerBusyError
from cb.events import Event, LedgerDegraded
from cb.ledger import layout as at
from cb.ledger.ledger import Ledger
from cb.ledger.time_bounds import FLEET_LEASE_SECONDS
from cb.log import Log
from cb.states import counted

from .connection import FleetError
from .member import MS, SILENCE_MS, Member
from .messages import Reply, Report
from .server import Server

# A generator of its own: a thread of the library must not disturb a program that has seeded `random`.
_random = random.SystemRandom()

log = Log(__name__)

#: Seconds between two checks of the ledger for something urgent: during activity, and otherwise.
TICK, IDLE_TICK = 0.01, 0.05
#: Seconds after the last valid reply for which the fleet controls its circuits.
LEASE_SECONDS = FLEET_LEASE_SECONDS
#: Seconds between two heartbeats.
HEARTBEAT_SECONDS = 1.0
#: Seconds after which a breaker is reported even without news, so that the server does not expire its keys.
REFRESH_SECONDS = 60.0
#: Share of one processor that reading the counters may take: with very many breakers, reports are less frequent.
CPU_SHARE = 0.05
#: Round trips for a breaker in one synchronization: counts, a proposed change, and its result.
ROUND_TRIPS = 3
#: Notifications of one breaker that trigger an immediate report within a sync interval; further ones wait for the next.
IMMEDIATE_NOTIFICATIONS = 2


class Agent:
    """Synchronizes a ledger with a server. `run_once` is one iteration of the loop that `Fleet` runs in a thread.

    Args:
        server: Connection to the server; used by this agent alone.
        ledger: The ledger of the host.
        sync_interval: Seconds between two synchronizations.
        clock: Monotonic clock of the ledger, in nanoseconds.
        wall_clock: Wall clock for the log of transitions, in nanoseconds.
        emit: Callback for events.
    """

    def __init__(
        self,
        server: Server,
        ledger: Ledger,
        *,
        sync_interval: float,
        clock: Callable[[], int],
        wall_clock: Callable[[], int],
        emit: Callable[[Sequence[Event]], None],
    ) -> None:
        self._server = server
        self._ledger = ledger
        self._header = ledger.core.header
        self._sync_interval = nanoseconds(sync_interval)
        self._clock = clock
        self._wall_clock = wall_clock
        self._emit = emit
        self._members: dict[str, Member] = {}
        self._known_rows = self._known_transitions = 0
        # Nanoseconds of `clock`: the last message sent, heartbeat, and full pass over the breakers.
        self._last_sent = self._last_heartbeat = self._last_pass = 0
        # Nanoseconds between two full passes, and the processor time that the last one took.
        self._pass_interval = self._pass_cost = 0
        self._last_valid_reply = clock()
        self._last_fault: FleetError | None = None
        # Notifications since the last full pass: those that triggered a report at once, and those that wait.
        self._immediate: Counter[str] = Counter()
        self._waiting: set[str] = set()
        # By breaker: time of the next unconditional report, and end of the pause after an invalid reply.
        self._refresh_at: dict[str, int] = {}
        self._suspended_until: dict[str, int] = {}
        self._failed: set[str] = set()
        self._logged_at: dict[str, int] = {}
        #: identifier of this host in its fleet
        self.host = f"{ledger.core.join_fleet():016x}"

    def __repr__(self) -> str:
        return f"<Agent of host {self.host}, {counted(len(self._members), 'breaker')}>"

    def run_once(self) -> None:
        """Wait briefly for notifications from other hosts, then synchronize if anything is due. Raises FleetError."""
        active = self._clock() - self._last_sent < nanoseconds(HEARTBEAT_SECONDS)
        changed = self._select_notified(self._server.changed(TICK if active else IDLE_TICK))
        now = self._clock()
        if not self._last_heartbeat or now - self._last_heartbeat >= nanoseconds(HEARTBEAT_SECONDS):
            self._send_heartbeat(now)
        woken = self._header[at.H_WAKE_AGENT] or self._header[at.H_EVENTS] != self._known_transitions
        if now - self._last_pass >= self._pass_interval:
            self._last_pass = now
            changed, self._waiting = changed | self._waiting, set()
            self._immediate.clear()
            self.sync(changed, now)
            self._pass_interval = max(self._sync_interval, round(self._pass_cost / CPU_SHARE))
        elif changed or woken:
            self.sync(changed, now, urgent_only=True)
        if not self._has_recent_reply(now):
            raise FleetError(f"no valid reply: {self._last_fault}")

    def sync(self, changed: set[str], now: int, *, urgent_only: bool = False) -> None:
        """Report new facts to the fleet and apply its replies.

        A breaker in `changed` is reported even if this host has nothing new about it. With `urgent_only`, breakers that
        can wait for the next full pass are skipped. An error that concerns one breaker, here or on the server, affects
        no other breaker. Raises FleetError if the server does not reply at all.
        """
        self._header[at.H_WAKE_AGENT], self._known_transitions = 0, self._header[at.H_EVENTS]
        silence_ms, reports = max(SILENCE_MS, 3 * self._pass_interval // MS), []
        for member in self._all_members(now):
            always = member.name in changed or now >= self._refresh_at.get(member.name, 0)
            due = (always or member.urgent or not urgent_only) and now >= self._suspended_until.get(member.name, 0)
            if due and (report := self._report(member, now, always=always, silence_ms=silence_ms)):
                reports.append((member, report))
        if not urgent_only:
            self._pass_cost = self._clock() - now
        for _ in range(ROUND_TRIPS):
            if reports:
                reports = self._send(reports)
        # Renewed last: a server that accepts heartbeats and rejects everything else must not control circuits.
        if self._has_recent_reply(now) and (not self._members or self._members.keys() - self._failed):
            self._header[at.H_FLEET_LEASE_UNTIL] = now + nanoseconds(LEASE_SECONDS)

    def _has_recent_reply(self, now: int) -> bool:
        """Return True if the server has given a valid reply within the lease."""
        return now - self._last_valid_reply <= nanoseconds(LEASE_SECONDS)

    def _select_notified(self, changed: set[str] | None) -> set[str]:
        """Return the breakers to report at once. Notifications of the others wait for the next full pass."""
        if changed is None:
            self._waiting = set(self._members)
            return set()
        known = changed & self._members.keys()
        immediate = {name for name in known if self._immediate[name] < IMMEDIATE_NOTIFICATIONS}
        self._immediate.update(immediate)
        self._waiting |= known - immediate
        return immediate

    def _send_heartbeat(self, now: int) -> None:
        hosts = self._server.heartbeat(self.host)
        self._last_heartbeat = now
        if isinstance(hosts, FleetError):
            self._last_fault, self._header[at.H_HOSTS] = hosts, 0
            self._refresh_at.clear()  # the reports then show whether the server replies
            self._log_once("", now, "the number of hosts in the fleet is unknown: %s", hosts)
        else:
            self._header[at.H_HOSTS] = hosts
            self._last_valid_reply = self._header[at.H_LAST_SYNC] = now

    def _report(self, member: Member, now: int, *, always: bool, silence_ms: int = SILENCE_MS) -> Report | None:
        try:
            return member.report(now, always=always, silence_ms=silence_ms)
        except Exception as error:  # noqa: BLE001 - the breaker's record in the ledger may be damaged
            self._suspend(member, error, now)
            return None

    def _send(self, reports: Sequence[tuple[Member, Report]]) -> list[tuple[Member, Report]]:
        """Send reports and apply the replies. Return the reports that must follow at once."""
        replies = self._server.sync(self.host, [(member.name, report) for member, report in reports])
        now = self._last_sent = self._clock()
        for (member, report), reply in zip(reports, replies, strict=True):
            self._refresh_at[member.name] = 0
            try:
                self._apply(member, report, reply, now)
            except LedgerBusyError:  # the holder of the lock may have been stopped: the next pass tries again
                pass
            except Exception as error:  # noqa: BLE001 - the breaker's record in the ledger may be damaged
                self._suspend(member, error, now)
        more = [(member, self._report(member, now, always=False)) for member, _ in reports if member.has_proposal]
        return [(member, report) for member, report in more if report]

    def _apply(self, member: Member, report: Report, reply: Reply | FleetError, now: int) -> None:
        if isinstance(reply, FleetError):
            self._last_fault = reply
            raise reply
        self._last_valid_reply = self._header[at.H_LAST_SYNC] = now
        self._emit(member.apply(report, reply, now))
        if member.back_off_seconds:
            raise FleetError("the server has repeatedly lost the round of probes")
        self._refresh_at[member.name] = now + _jittered(REFRESH_SECONDS)
        if reply.damaged:
            reason = f"the data stored on the server was invalid ({reply.damaged}) and has been replaced"
            self._log_once(member.name, now, "fleet, breaker %s: %s", member.name, reason)
        elif member.name in self._failed:
            self._failed.discard(member.name)
            log.info("breaker %s follows its fleet again", member.name)

    def _suspend(self, member: Member, error: Exception, now: int) -> None:
        """Leave a breaker to the host alone, and do not report it to the server for a while."""
        self._failed.add(member.name)
        self._suspended_until[member.name] = now + nanoseconds(max(HEARTBEAT_SECONDS, member.back_off_seconds))
        member.detach()
        if not isinstance(error, FleetError):
            member.reset_shared_cells()
        reason = str(error) if isinstance(error, FleetError) else repr(error)
        self._log_once(member.name, now, "the fleet has no valid reply for breaker %s: %s", member.name, reason)

    def _log_once(self, name: str, now: int, message: str, *args: object) -> None:
        """Log an error, and emit an event if it concerns a breaker: at most once in REFRESH_SECONDS for each."""
        if name in self._logged_at and now - self._logged_at[name] < nanoseconds(REFRESH_SECONDS):
            return
        self._logged_at[name] = now
        log.error(message, *args)
        if name:
            self._emit([LedgerDegraded(name, message % args)])

    def _all_members(self, now: int) -> Iterable[Member]:
        if self._header[at.H_RECORDS] != self._known_rows:
            rows = self._header[at.H_RECORDS]
            for name in self._ledger.names():
                if name not in self._members and not self._add(name, now):
                    rows = -1  # the next pass tries again
            self._known_rows = rows
        return list(self._members.values())

    def _add(self, name: str, now: int) -> bool:
        try:
            self._members[name] = Member(name, self._ledger, now, self._wall_clock)
        except Exception as error:  # noqa: BLE001 - the breaker's record in the ledger may be damaged
            self._log_once(name, now, "breaker %s cannot join its fleet: %r", name, error)
            return False
        return True


def _jittered(seconds: float) -> int:
    """Return half to all of a duration, in nanoseconds, so that hosts and breakers do not report together."""
    return nanoseconds(seconds * _random.uniform(0.5, 1))
