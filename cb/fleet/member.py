"""One breaker of this host in its fleet: the reports that it sends, and the replies that it applies.

Host and agent communicate through cells of the ledger. A `call` is any process that calls through a breaker, an
`operator` is `BreakerControl`, `ledger` is code that runs under the ledger lock in any process. The cells that begin
with `H_` are in the ledger's header, SUCCESSES to WINDOW are in the counters, and all others in the head of a breaker's
record; `cb/ledger/layout.py` has their positions.

cell                    writer           reader           meaning
H_HOST                  agent, operator  operator, agent  number of this host in its fleet; not 0: in a fleet
H_FLEET_LEASE_UNTIL     agent            call             until then the fleet controls the circuits that it opened
H_HOSTS                 agent            operator         number of hosts in the fleet, 0 if unknown
H_LAST_SYNC             agent            operator         time of the last valid reply
H_WAKE_AGENT            call, operator   agent            not 0: something must be reported before the next interval
H_RECORDS               ledger           agent            number of breakers
H_EVENTS                ledger           agent            number of transitions: another one must be reported at once
WORD                    ledger           agent            state, generation, and version of the thresholds
UNTIL                   ledger           agent            end of the state
REASON, REASON_CELLS    ledger           agent            reason for the state
SUCCESSES, FAILURES     call             agent            totals of calls, by duration
SLOW, WINDOW            call             agent            total of slow calls; first cell after the totals
FLEET                   agent            operator         state of the fleet in the last reply: generation << 3 | code
FLEET_CONTROLLED        agent, ledger    call, agent      not 0: the fleet put the circuit into its state
FLEET_UNREACHABLE       agent            operator         not 0: the server gave no valid reply for this breaker
PERMITS                 agent            call             probes of the round that the fleet grants to this host
NO_PERMIT               call, agent      call             WORD in which a call found no permit; 0: look again
PROBE_REQUESTED         call             agent            not 0: a rejected call could have been a probe
PROBE_ENDED             call             agent            not 0: a probe of the fleet's round has ended
PUBLISH                 operator         agent            generation of an operator's state, 0 once the fleet has it
PUBLISH_THRESHOLDS      operator, agent  agent            version of an operator's thresholds, 0 once the fleet has them
FLEET_THRESHOLDS        agent            agent            version of the fleet's thresholds that this host has applied
EXEMPT                  operator         agent            state of the fleet that this host does not follow
REPORTED                agent            agent            requests, failures and slow calls that the fleet has counted
"""

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace

from cb.config import BreakerConfig, nanoseconds
from cb.errors import CircuitError
from cb.events import Event
from cb.ledger import layout as at
from cb.ledger.core import LONG_LOCK_TIMEOUT_SECONDS
from cb.ledger.layout import generation_of, state_of
from cb.ledger.ledger import Ledger
from cb.state import thresholds
from cb.state.machine import StateMachine
from cb.state.window import Probes, WindowStats, read, totals
from cb.states import CODES, HELD, STATES, Counts, State, counted

from .messages import Change, Reply, Report

MS = 1_000_000
#: Milliseconds without a report after which a host loses its permits.
SILENCE_MS = 3_000
#: Milliseconds for which the server keeps its data longer than necessary.
SPARE_MS = 600_000
#: Hosts whose own calls must fail before the fleet opens, if that many have traffic.
WITNESSES = 2
#: Longest time for which an operator can hold a circuit, in milliseconds.
MAX_HOLD_MS = 31 * 86_400_000
#: Rounds of probes in a row that the server may lose; a restart loses one.
LOST_ROUNDS = 2
#: Longest name of a host in a reason, in characters.
_MAX_HOST_NAME = 48
#: Seconds for which the host then decides alone: at first, and at most.
BACK_OFF, BACK_OFF_MAX = 5.0, 60.0


class Member:
    """A breaker of the ledger, as the host's agent synchronizes it. Rules 16 to 20 of docs/rules.md."""

    def __init__(self, name: str, ledger: Ledger, now: int, wall_clock: Callable[[], int]) -> None:
        self.name = name
        self._row = ledger.core.record(name, now)
        self._head = self._row.head
        self._lock = ledger.core.lock
        self._circuit = StateMachine(name, self._row, BreakerConfig(), wall_clock)
        self._version = self._word = -1
        self._published_thresholds = 0
        self._proposal: Change | None = None
        self._totals = (0, 0, 0)
        self._lost = self._lost_at = 0

    def __repr__(self) -> str:
        return f"<Member {self.name!r} {state_of(self._head[at.WORD])}>"

    @property
    def back_off_seconds(self) -> float:
        """Seconds to wait before the next report: the server keeps losing the rounds of this circuit."""
        if self._lost < LOST_ROUNDS:
            return 0.0
        return min(BACK_OFF * 2.0 ** (self._lost - LOST_ROUNDS), BACK_OFF_MAX)

    @property
    def urgent(self) -> bool:
        """True if the next report must not wait for the interval: a change to publish, or a permit to request."""
        head = self._head
        return (
            self._proposal is not None
            or head[at.WORD] != self._word
            or any(head[cell] for cell in (at.PROBE_REQUESTED, at.PROBE_ENDED, at.PUBLISH, at.PUBLISH_THRESHOLDS))
        )

    @property
    def has_proposal(self) -> bool:
        """True if the last reply gave a reason to change the state of the fleet."""
        return self._proposal is not None

    def report(self, now: int, *, always: bool, silence_ms: int = SILENCE_MS) -> Report | None:
        """Return a report, None if nothing is new, unless `always`.

        `silence_ms` is the time without another report after which the host loses its permits.
        """
        head, config = self._head, self._refresh()
        urgent, self._word, head[at.PROBE_ENDED] = self.urgent, head[at.WORD], 0
        state, generation = state_of(self._word), generation_of(self._word)
        reading, sums = read(self._row, config, now), totals(self._row.pages())
        failures = sum(sums[at.FAILURES : at.WINDOW])
        self._totals = sum(sums[at.SUCCESSES : at.WINDOW]), failures, sums[at.SLOW]
        fresh = [
            total - reported for total, reported in zip(self._totals, head[at.REPORTED : at.REPORTED + 3], strict=True)
        ]
        known, follows = STATES[head[at.FLEET] & 7], head[at.FLEET_CONTROLLED] != 0
        in_round = known is state is State.HALF_OPEN and follows
        expired = known in HELD and follows and self._remaining(now) == 0
        if not (always or urgent or any(fresh) or in_round or expired):
            return None
        probe_requested, head[at.PROBE_REQUESTED] = head[at.PROBE_REQUESTED], 0
        self._published_thresholds = head[at.PUBLISH_THRESHOLDS]
        window = reading.window
        return Report(
            generation=head[at.FLEET] >> 3,
            known_generation=head[at.FLEET] >> 3 if follows or known is State.CLOSED else 0,
            state=known.value,
            remaining=self._remaining(now) if follows else None,
            reason=at.get_text(head, at.REASON, at.REASON_CELLS) if follows else "",
            operator=int(known in HELD),
            requests=self._totals[0],
            failures=self._totals[1],
            slow=self._totals[2],
            new_requests=max(min(fresh[0], window.requests), 0),
            new_failures=max(min(fresh[1], window.failures), 0),
            new_slow=max(min(fresh[2], window.slow), 0),
            streak=reading.streak - reading.hung,
            traffic=int(window.requests > 0),
            bad=int(_is_bad(window, config)),
            stay=generation if in_round else generation + 1,
            probes_of=head[at.FLEET] >> 3 if in_round else 0,
            budget=head[at.PERMITS],
            taken=reading.probes.taken,
            succeeded=reading.probes.successes,
            failed=reading.probes.failures,
            probe_requested=probe_requested,
            window=_ms(config.interval),
            permits=config.max_requests,
            round=_ms(config.half_open_max_duration),
            longest=max(_ms(config.timeout_max * (1 + config.timeout_jitter)) + 1, silence_ms),
            silence=silence_ms,
            keep=2 * _ms(config.interval) + _ms(config.timeout_max) + (self._remaining(now) or 0) + SPARE_MS,
            thresholds_version=head[at.FLEET_THRESHOLDS],
            thresholds=json.dumps(asdict(config)) if self._published_thresholds else None,
            change=self._published(now) or self._proposal,
        )

    def apply(self, report: Report, reply: Reply, now: int) -> list[Event]:
        """Apply a reply to the ledger, and check whether its totals require a change of the fleet's state."""
        for cell, total in enumerate(self._totals, at.REPORTED):
            self._head[cell] = total
        self._count_lost(reply)
        events = self._lock.run(lambda: self._apply_locked(report, reply, now), LONG_LOCK_TIMEOUT_SECONDS)
        self._word = self._head[at.WORD]
        self._proposal = self._propose(reply, now)
        return events

    def detach(self) -> None:
        """Let the host decide alone about this breaker: the server gives no valid reply."""
        self._head[at.FLEET_CONTROLLED] = 0
        self._head[at.FLEET_UNREACHABLE] = 1
        self._proposal = None

    def reset_shared_cells(self) -> None:
        """Clear the cells that describe the fleet: they may be the damaged ones. The breaker then joins anew."""
        shared = (
            at.FLEET,
            at.PERMITS,
            at.PUBLISH,
            at.PUBLISH_THRESHOLDS,
            at.FLEET_THRESHOLDS,
            at.EXEMPT,
            at.PROBE_REQUESTED,
        )
        for cell in (*shared, *range(at.REPORTED, at.REPORTED + 3)):
            self._head[cell] = 0

    def _count_lost(self, reply: Reply) -> None:
        if reply.state == State.CLOSED:
            self._lost = 0
        elif reply.lost and reply.generation != self._lost_at:
            self._lost, self._lost_at = self._lost + 1, reply.generation

    def _apply_locked(self, report: Report, reply: Reply, now: int) -> list[Event]:
        self._apply_thresholds_locked(report, reply, now)
        head, state = self._head, State(reply.state)
        generation, here = generation_of(head[at.WORD]), state_of(head[at.WORD])
        head[at.FLEET_UNREACHABLE] = 0
        own = report.change if report.change and report.change.operator else None
        if head[at.PUBLISH] == generation and not (own and own.generation == generation):
            return []  # an operator of this host has changed the state meanwhile: publish that first
        # The permits first: those granted for an earlier round must not be used in this one.
        head[at.PERMITS], head[at.PUBLISH], head[at.NO_PERMIT] = min(reply.permits, report.permits), 0, 0
        known, head[at.FLEET] = head[at.FLEET], reply.generation << 3 | CODES[state]
        if own and here is state:
            head[at.FLEET_CONTROLLED] = state is not State.CLOSED
        elif head[at.EXEMPT] != head[at.FLEET] and self._must_enter(state, here, known, operator=reply.operator == 1):
            longest = {State.OPEN: report.longest, State.HALF_OPEN: report.round}.get(state, MAX_HOLD_MS)
            until = 0 if reply.remaining is None else now + min(max(reply.remaining, 0), longest) * MS
            return [
                self._circuit.follow(state, now, at.cut_text(reply.reason, at.REASON_CELLS * 8), until, reply.rounds)
            ]
        return []

    def _apply_thresholds_locked(self, report: Report, reply: Reply, now: int) -> None:
        head = self._head
        if report.thresholds is not None and head[at.PUBLISH_THRESHOLDS] == self._published_thresholds:
            head[at.PUBLISH_THRESHOLDS] = 0
        if head[at.PUBLISH_THRESHOLDS]:
            return  # an operator of this host has changed them meanwhile: publish those first
        if reply.thresholds is not None and report.thresholds is None:
            # Thresholds of a later release, or written by another program, are ignored.
            with suppress(ValueError, TypeError, RecursionError, CircuitError):
                thresholds.write(self._row, replace(self._circuit.config, **json.loads(reply.thresholds)), now)
        if reply.thresholds_version < head[at.FLEET_THRESHOLDS]:  # the server has lost them: publish again
            head[at.PUBLISH_THRESHOLDS] = thresholds.version(head[at.WORD]) or 1
        else:
            head[at.FLEET_THRESHOLDS] = reply.thresholds_version

    def _must_enter(self, state: State, here: State, known: int, *, operator: bool) -> bool:
        """Return True if this host must enter the fleet's state; `known` is the state of the previous reply."""
        fleet_controlled, new = self._head[at.FLEET_CONTROLLED] != 0, known != self._head[at.FLEET]
        if state is State.CLOSED:
            # A host may open on its own calls, and a new host has its own window.
            return (fleet_controlled and here is not State.CLOSED) or (new and known != 0 and operator)
        if here in HELD and not fleet_controlled:
            return new and operator  # otherwise an operator holds this host alone
        return new or not fleet_controlled or here is not state

    def _propose(self, reply: Reply, now: int) -> Change | None:
        state, circuit = State(reply.state), self._circuit
        verdict = None
        if state is State.CLOSED:
            enough = min(WITNESSES, max(reply.traffic, 1))
            counts = Counts(reply.requests, reply.failures, reply.slow) if reply.bad >= enough else Counts()
            streak = reply.streak if reply.streaks >= enough else 0
            if reason := circuit.trip_reason(WindowStats(window=counts, streak=streak)):
                verdict = State.OPEN, f"{reason}, on {counted(max(reply.bad, reply.streaks), 'host')}"
        elif state is State.HALF_OPEN:
            probes = Probes(taken=reply.given, successes=reply.succeeded, failures=reply.failed)
            verdict = circuit.half_open_verdict(probes, over=(reply.remaining or 0) <= 0)
        if not verdict:
            return None
        rounds = reply.rounds + (state is State.HALF_OPEN)
        duration = circuit.open_time(rounds, now) // MS if verdict[0] is State.OPEN else None
        return Change(
            generation=reply.generation,
            state=verdict[0].value,
            duration=duration,
            reason=with_host(f"fleet: {verdict[1]}"),
        )

    def _published(self, now: int) -> Change | None:
        head = self._head
        if not head[at.PUBLISH] or head[at.PUBLISH] != generation_of(head[at.WORD]):
            return None  # none, or the state has ended before it was published
        return Change(
            generation=head[at.PUBLISH],
            state=state_of(head[at.WORD]).value,
            duration=self._remaining(now),
            reason=with_host(at.get_text(head, at.REASON, at.REASON_CELLS)),
            operator=1,
        )

    def _refresh(self) -> BreakerConfig:
        version = thresholds.version(self._head[at.WORD])
        if self._version != version:
            self._version = version
            self._circuit.config = thresholds.read(self._row, self._circuit.config)
        return self._circuit.config

    def _remaining(self, now: int) -> int | None:
        until = self._head[at.UNTIL]
        return min(max(until - now, 0) // MS, MAX_HOLD_MS) if until else None


def with_host(reason: str) -> str:
    """Return a reason with the name of this host: `(by host web-2)`, or after an author `(by alice on web-2)`."""
    name = "".join(each for each in socket.gethostname() if each.isalnum() or each in "-._")
    host = name[:_MAX_HOST_NAME] or "unknown"
    text, found, author = reason.rpartition(" (by ")
    by = f" (by {author[:-1]} on {host})" if found and author.endswith(")") else f" (by host {host})"
    # The reason is cut, and not the names: neither may take all bytes.
    return at.cut_text(text if found else reason, at.REASON_CELLS * 8 - len(by.encode())) + by


def _is_bad(window: Counts, config: BreakerConfig) -> bool:
    """Return True if the host is a witness: its own calls fail, or are slow, at a rate that opens the circuit."""
    limits = (
        (window.failure_rate, config.failure_rate_threshold),
        (window.slow_call_rate, config.slow_call_rate_threshold),
    )
    return window.requests > 0 and any(limit is not None and rate >= limit for rate, limit in limits)


def _ms(seconds: float) -> int:
    return max(nanoseconds(seconds) // MS, 1)
