"""What a breaker looks like at one moment, for people and machines."""

from bisect import bisect_left
from dataclasses import dataclass, fields
from itertools import accumulate
from operator import add

from .config import BreakerConfig
from .health import Health
from .health import read as read_health
from .ledger import layout as at
from .ledger.layout import generation_of, state_of
from .ledger.ledger import Ledger
from .ledger.record import Record
from .ledger.time_bounds import Deadlines
from .state import thresholds, window
from .state.explanation import explain
from .state.window import Counts
from .states import ADMITTING, STATES, State

_NS = 1e9
_BOUNDS = tuple(bound / _NS for bound in at.BOUNDS)


@dataclass(frozen=True, slots=True)
class Totals:
    """Calls since the ledger was made. They never go back."""

    #: calls that ended with a success or a failure while the stay that admitted them lasted
    requests: int
    #: those of them that ended well
    successes: int
    #: those of them that failed
    failures: int
    #: those of them that took slow_call_duration or longer
    slow: int
    #: calls that were refused
    rejected: int
    #: calls that were refused because too many ran
    full: int
    #: calls that ended neither well nor badly
    neutral: int
    #: calls that ended after the circuit had changed its state
    late: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations of the requests."""

    #: upper bounds in seconds, without the last, which is infinite
    bounds: tuple[float, ...]
    #: calls below each bound and not below the one before it; one more than there are bounds
    counts: tuple[int, ...]
    #: seconds of all calls together
    sum: float

    def quantile(self, q: float) -> float | None:
        """Return seconds, linear within a bar, None without calls. A duration above the last bound counts as it."""
        sums = list(accumulate(self.counts))
        if not sums[-1]:
            return None
        rank = q * sums[-1]
        bar = bisect_left(sums, rank)
        if bar >= len(self.bounds):
            return self.bounds[-1]
        low = self.bounds[bar - 1] if bar else 0.0
        before = sums[bar - 1] if bar else 0
        return low + (self.bounds[bar] - low) * (rank - before) / max(self.counts[bar], 1)


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The latest failure in any process."""

    #: seconds since then
    ago: float
    #: name of the exception's class
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What is counted of a breaker: what can be told without looking at its window."""

    #: the breaker's
    name: str
    #: at this moment
    state: State
    #: calls since the ledger was made
    totals: Totals
    #: durations of the requests
    latency: Histogram
    #: calls that run now
    in_flight: int
    #: calls that a bulkhead lets run at once, None without one
    limit: int | None
    #: number of transitions by (before, after)
    changes: dict[tuple[State, State], int]
    #: the thresholds in force
    config: BreakerConfig
    #: of the dependency, None if nobody has ever checked it
    health: Health | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Stats):
    """All that is known of a breaker."""

    #: who has decided on the state: the fleet, this host, or this process alone
    source: str
    #: number of this stay in a state
    generation: int
    #: seconds in this state
    age: float
    #: seconds until the circuit may admit a call: 0 where it has a permit for one, a second at most where one may come
    #: back at any moment; None where it admits them all, or refuses them without end
    retry_after: float | None
    #: calls of the statistical window
    window: Counts
    #: its length
    window_seconds: float
    #: failures since the last success
    consecutive_failures: int
    #: None if no call has failed yet
    last_failure: LastFailure | None
    #: why it is in its state, and what would change it
    why: str


def count(name: str, row: Record, config: BreakerConfig, now: int) -> Stats:
    """Return the figures of a row. Reads only."""
    head, pages = row.head, row.pages()
    sums = window.totals(pages)
    good, bad = sums[at.SUCCESSES : at.FAILURES], sums[at.FAILURES : at.WINDOW]
    bars = tuple(map(add, good, bad))
    return Stats(
        name=name,
        state=state_of(head[at.WORD]),
        totals=Totals(
            requests=sum(bars),
            successes=sum(good),
            failures=sum(bad),
            slow=sums[at.SLOW],
            rejected=sums[at.REJECTED],
            full=sums[at.FULL],
            neutral=sums[at.NEUTRAL],
            late=sums[at.LATE],
        ),
        latency=Histogram(_BOUNDS, bars, sums[at.ELAPSED] / _NS),
        in_flight=window.in_flight(pages),
        limit=head[at.BULKHEAD_LIMIT] or None,
        changes={
            (STATES[place // 8], STATES[place % 8]): number
            for place, number in enumerate(head[at.CHANGES : at.CHANGES + len(STATES) * 8].tolist())
            if number and place % 8 < len(STATES)
        },
        config=config,
        health=read_health(head, now),
    )


def take(name: str, row: Record, config: BreakerConfig, scope: str, now: int) -> Snapshot:
    """Return a snapshot of a row. Reads only."""
    head = row.head
    word, since = head[at.WORD], head[at.SINCE]
    state, fleet_controlled = state_of(word), row.fleet_controlled(now)
    reading = window.read(row, config, now)
    failed = window.last_failure(row, now)
    free = reading.probes.taken < row.permits(config, now) if state is State.HALF_OPEN else not fleet_controlled
    deadlines = Deadlines.of(config, head[at.SLICE])
    wait = None if state in ADMITTING else deadlines.wait(head, now, free=free)
    left = None if wait is None else deadlines.left(head, now) / _NS
    figures = count(name, row, config, now)
    return Snapshot(
        **{each.name: getattr(figures, each.name) for each in fields(Stats)} | {"state": state},
        source="fleet" if fleet_controlled else scope,
        generation=generation_of(word),
        age=max(now - since, 0) / _NS,
        retry_after=None if wait is None else wait / _NS,
        window=reading.window,
        window_seconds=config.interval,
        consecutive_failures=reading.streak,
        last_failure=LastFailure(max(now - failed[0], 0) / _NS, failed[1]) if failed else None,
        why=explain(
            row, state, config, reading, left, fleet_controlled=fleet_controlled, checked=now < head[at.PROBER_UNTIL]
        ),
    )


def see(ledger: Ledger, name: str, now: int) -> Snapshot:
    """Return a snapshot of a breaker that a ledger has, made in whichever process, by the thresholds in force."""
    row = ledger.row(name, now)
    return take(name, row, thresholds.read(row, BreakerConfig()), ledger.scope, now)


def see_figures(ledger: Ledger, name: str, now: int) -> Stats:
    """Return the figures of such a breaker."""
    row = ledger.row(name, now)
    return count(name, row, thresholds.read(row, BreakerConfig()), now)
