"""Snapshots: the state and the counts of a breaker at one moment."""

from bisect import bisect_left
from dataclasses import dataclass, fields
from itertools import accumulate
from operator import add
from typing import Any

from .clocks import timestamp
from .config import BreakerConfig
from .failures import LastFailure
from .health import Health, read_health
from .ledger import layout as at
from .ledger.last_failure import read_last_failure
from .ledger.layout import generation_of, state_of
from .ledger.ledger import Ledger
from .ledger.record import Record
from .ledger.time_bounds import Deadlines
from .state import thresholds, window
from .state.explanation import explain
from .states import ADMITTING, STATES, Counts, Scope, State

_NS = 1e9
_BOUNDS = tuple(bound / _NS for bound in at.BOUNDS)


@dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of calls since the ledger was created. They never decrease."""

    #: calls that succeeded or failed before the circuit left the state that admitted them
    requests: int
    #: requests that succeeded
    successes: int
    #: requests that failed
    failures: int
    #: requests that took slow_call_duration or longer
    slow: int
    #: calls that the circuit rejected
    rejected: int
    #: calls that a bulkhead rejected
    full: int
    #: calls that counted neither as success nor as failure
    neutral: int
    #: calls that ended after the circuit had left the state that admitted them
    late: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations of the requests, as a histogram."""

    #: upper bounds of the buckets in seconds; the last bucket has none
    bounds: tuple[float, ...]
    #: calls in each bucket, not cumulative; one more than there are bounds
    counts: tuple[int, ...]
    #: sum of all durations, in seconds
    sum: float

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile in seconds, interpolated linearly within a bucket; None without calls.

        Durations in the last bucket count as its lower bound.
        """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters and gauges of a breaker that do not require summing the window."""

    #: name of the breaker
    name: str
    #: state of the circuit
    state: State
    #: numbers of calls since the ledger was created
    totals: Totals
    #: durations of the requests
    latency: Histogram
    #: calls that are running
    in_flight: int
    #: limit of the bulkhead; None without one
    limit: int | None
    #: numbers of state changes by (before, after)
    changes: dict[tuple[State, State], int]
    #: the thresholds in force
    config: BreakerConfig
    #: result of the latest health checks; None if there never was one
    health: Health | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Stats):
    """State and counts of a breaker at one moment, summed over all processes."""

    #: scope that decided on the state
    source: Scope
    #: number of the stay in this state
    generation: int
    #: seconds in this state
    age: float
    #: seconds until a call may be admitted: 0 if a permit is free, at most 1 if one may be returned at any moment; None
    #: if all calls are admitted, or rejected without end
    retry_after: float | None
    #: counts of the sliding window
    window: Counts
    #: length of the window, in seconds
    window_seconds: float
    #: failures since the last success
    consecutive_failures: int
    #: latest failure; None if no call has failed yet
    last_failure: LastFailure | None
    #: one sentence: the reason for the state, and what would change it
    why: str

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return the snapshot as a JSON object. `now` is the time of the snapshot in seconds since the epoch.

        Times are whole seconds, so that two workers seldom round them differently.
        """
        window, failed = self.window, self.last_failure
        quantiles = {f"p{percent}": self.latency.quantile(percent / 100) for percent in (50, 95, 99)}
        return {
            "state": self.state.value,
            "source": self.source.value,
            "generation": self.generation,
            "since": timestamp(now - self.age),
            "retry_after_seconds": None if self.retry_after is None else round(self.retry_after, 3),
            "window": {
                "seconds": self.window_seconds,
                "requests": window.requests,
                "failures": window.failures,
                "slow": window.slow,
                "failure_rate": round(window.failure_rate, 3),
                "slow_call_rate": round(window.slow_call_rate, 3),
            },
            "totals": {name: getattr(self.totals, name) for name in _TOTALS},
            "consecutive_failures": self.consecutive_failures,
            "in_flight": self.in_flight,
            "limit": self.limit,
            "latency_ms": {
                name: None if seconds is None else round(seconds * 1000, 1) for name, seconds in quantiles.items()
            },
            "last_failure": failed.as_dict(now) if failed else None,
            "config": {name: getattr(self.config, name) for name in _SETTINGS},
            "why": self.why,
        }


# Not dataclasses.asdict, which copies every value deeply.
_TOTALS = tuple(each.name for each in fields(Totals))
_SETTINGS = tuple(each.name for each in fields(BreakerConfig))


def stats_of(name: str, record: Record, config: BreakerConfig, now: int) -> Stats:
    """Return the stats of a record. Writes nothing."""
    head, pages = record.head, record.pages()
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


def snapshot_of(name: str, record: Record, config: BreakerConfig, scope: Scope, now: int) -> Snapshot:
    """Return a snapshot of a record. Writes nothing."""
    head = record.head
    word, since = head[at.WORD], head[at.SINCE]
    state, fleet_controlled = state_of(word), record.fleet_controlled(now)
    window_stats = window.read(record, config, now)
    failed = read_last_failure(head, now)
    free = window_stats.probes.taken < record.permits(config, now) if state is State.HALF_OPEN else not fleet_controlled
    deadlines = Deadlines.of(config, head[at.SLICE])
    wait = None if state in ADMITTING else deadlines.wait(head, now, free=free)
    left = None if wait is None else deadlines.left(head, now) / _NS
    stats = stats_of(name, record, config, now)
    return Snapshot(
        **{each.name: getattr(stats, each.name) for each in fields(Stats)} | {"state": state},
        source=Scope.FLEET if fleet_controlled else scope,
        generation=generation_of(word),
        age=max(now - since, 0) / _NS,
        retry_after=None if wait is None else wait / _NS,
        window=window_stats.window,
        window_seconds=config.interval,
        consecutive_failures=window_stats.streak,
        last_failure=failed[1] if failed else None,
        why=explain(
            record,
            state,
            config,
            window_stats,
            left,
            fleet_controlled=fleet_controlled,
            checked=now < head[at.PROBER_UNTIL],
        ),
    )


def read_snapshot(ledger: Ledger, name: str, now: int) -> Snapshot:
    """Return a snapshot of a breaker of a ledger, whichever process created it, with the thresholds in force."""
    record = ledger.core.record(name, now)
    return snapshot_of(name, record, thresholds.read(record, BreakerConfig()), ledger.scope, now)


def read_stats(ledger: Ledger, name: str, now: int) -> Stats:
    """Return the stats of a breaker of a ledger, as `read_snapshot` does."""
    record = ledger.core.record(name, now)
    return stats_of(name, record, thresholds.read(record, BreakerConfig()), now)
