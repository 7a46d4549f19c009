"""What a breaker looks like at one moment, for people and machines."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

from . import layout as at
from . import window
from .config import BreakerConfig
from .explain import explain
from .health import Health
from .health import read as read_health
from .layout import ADMITTING, STATES, State, generation_of, state_of
from .row import Row
from .window import Counts

_NS = 1e9


@dataclass(frozen=True, slots=True)
class Totals:
    """Calls since the ledger was made. They never go back."""

    #: calls that ended with a success or a failure while the stay that admitted them lasted
    requests: int
    successes: int
    failures: int
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
    #: seconds since then
    ago: float
    #: name of the exception's class
    type: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known of a breaker."""

    name: str
    state: State
    #: who has decided on the state: the fleet, this host, or this process alone
    source: str
    #: number of this stay in a state
    generation: int
    #: seconds in this state
    age: float
    #: seconds until the circuit may admit a call, None where it admits them all, or refuses them without end
    retry_after: float | None
    window: Counts
    window_seconds: float
    totals: Totals
    consecutive_failures: int
    in_flight: int
    #: calls that a bulkhead lets run at once, None without one
    limit: int | None
    latency: Histogram
    last_failure: LastFailure | None
    #: number of transitions by (before, after)
    changes: dict[tuple[State, State], int]
    config: BreakerConfig
    #: of the dependency, None if nobody has ever checked it
    health: Health | None
    #: why it is in its state, and what would change it
    why: str


def take(name: str, row: Row, config: BreakerConfig, scope: str, now: int) -> Snapshot:
    """Return a snapshot of a row. Reads only."""
    head = row.head
    word, until, since = head[at.WORD], head[at.UNTIL], head[at.SINCE]
    state = state_of(word)
    reading = window.read(row, config, now)
    sums = window.totals(row)
    good, bad = sums[at.SUCCESSES : at.FAILURES], sums[at.FAILURES : at.WINDOW]
    bars = tuple(one + other for one, other in zip(good, bad, strict=True))
    failed = window.last_failure(row)
    wait = None if state in ADMITTING or not until else max(until - now, 0) / _NS
    return Snapshot(
        name=name,
        state=state,
        source="fleet" if row.led(now) else scope,
        generation=generation_of(word),
        age=max(now - since, 0) / _NS,
        retry_after=wait,
        window=reading.window,
        window_seconds=config.interval,
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
        consecutive_failures=reading.streak,
        in_flight=reading.in_flight,
        limit=head[at.LIMIT] or None,
        latency=Histogram(tuple(bound / _NS for bound in at.BOUNDS), bars, sums[at.ELAPSED] / _NS),
        last_failure=LastFailure(max(now - failed[0], 0) / _NS, failed[1]) if failed else None,
        changes={
            (before, after): number
            for i, before in enumerate(STATES)
            for j, after in enumerate(STATES)
            if (number := head[at.CHANGES + i * 8 + j])
        },
        config=config,
        health=read_health(head, now),
        why=explain(row, state, config, reading, wait, checked=now < head[at.PROBER_UNTIL]),
    )
