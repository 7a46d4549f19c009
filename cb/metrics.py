"""A Prometheus collector that reads the ledger: any worker answers for all of them.

It counts nothing itself. Register it in a registry of prometheus_client; where several processes share a registry's
values through files, in the one that is made for the scrape.
"""

import re
import time
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.utils import floatToGoString

from .layout import State
from .registry import Registry
from .snapshot import Histogram, Snapshot

_OUTCOMES = {"success": "successes", "failure": "failures", "neutral": "neutral", "late": "late"}
_ARROWS = (
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.CLOSED),
    (State.HALF_OPEN, State.OPEN),
)
_STATES = tuple(State)


class BreakerCollector:
    """The metrics of a registry's breakers. `seed_names` adds those with the breaker's name as suffix."""

    def __init__(self, registry: Registry, *, seed_names: bool = False) -> None:
        self._registry = registry
        self._seed_names = seed_names

    def collect(self) -> Iterator[Metric]:
        """Yield all families with the values of this moment."""
        snapshots = [breaker.snapshot() for breaker in self._registry]
        yield from _families(snapshots)
        yield GaugeMetricFamily(
            "circuit_breaker_ledger_degraded",
            "1 if the processes of this host do not share the breakers as they should",
            self._registry.ledger.degraded is not None,
        )
        if fleet := self._registry.ledger.fleet(time.monotonic_ns()):
            yield GaugeMetricFamily("circuit_breaker_fleet_connected", "1 if this host follows its fleet", fleet.leads)
            yield GaugeMetricFamily("circuit_breaker_fleet_hosts", "Hosts in the fleet, as seen last", fleet.hosts)
        if self._seed_names:
            # Two names may differ in what a metric's name cannot hold, and no series may come twice.
            suffixes = {re.sub(r"[^a-zA-Z0-9_]", "_", seen.name): seen for seen in reversed(snapshots)}
            for suffix, seen in sorted(suffixes.items()):
                yield from _suffixed(suffix, seen)


def _families(snapshots: list[Snapshot]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "circuit_breaker_requests_total", "Calls that were admitted and have ended", labels=["name", "outcome"]
    )
    failures = CounterMetricFamily("circuit_breaker_failures_total", "Calls that failed", labels=["name"])
    rejected = CounterMetricFamily("circuit_breaker_rejected_total", "Calls that were refused", labels=["name"])
    full = CounterMetricFamily(
        "circuit_breaker_bulkhead_full_total", "Calls that were refused because too many ran", labels=["name"]
    )
    limit = GaugeMetricFamily("circuit_breaker_bulkhead_limit", "Calls that may run at once", labels=["name"])
    changes = CounterMetricFamily(
        "circuit_breaker_state_changes_total", "Changes of the circuit's state", labels=["name", "from", "to"]
    )
    state = GaugeMetricFamily("circuit_breaker_state", "1 for the state the circuit is in", labels=["name", "state"])
    in_flight = GaugeMetricFamily("circuit_breaker_in_flight", "Calls that are running", labels=["name"])
    duration = HistogramMetricFamily(
        "circuit_breaker_request_duration_seconds", "Durations of calls that succeeded or failed", labels=["name"]
    )
    health = GaugeMetricFamily(
        "circuit_breaker_health", "1 if the latest health check found the dependency up, 0 if down", labels=["name"]
    )
    checked = GaugeMetricFamily(
        "circuit_breaker_health_check_age_seconds", "Time since the latest health check ended", labels=["name"]
    )
    for seen in snapshots:
        for outcome, total in _OUTCOMES.items():
            requests.add_metric([seen.name, outcome], getattr(seen.totals, total))
        failures.add_metric([seen.name], seen.totals.failures)
        rejected.add_metric([seen.name], seen.totals.rejected)
        full.add_metric([seen.name], seen.totals.full)
        if seen.limit:
            limit.add_metric([seen.name], seen.limit)
        for before, after in sorted({*_ARROWS, *seen.changes}, key=str):
            changes.add_metric([seen.name, before.value, after.value], seen.changes.get((before, after), 0))
        for each in _STATES:
            state.add_metric([seen.name, each.value], each is seen.state)
        in_flight.add_metric([seen.name], seen.in_flight)
        duration.add_metric([seen.name], _buckets(seen.latency), seen.latency.sum)
        if seen.health:
            checked.add_metric([seen.name], seen.health.ago)
            if seen.health.up is not None:  # what nobody knows any more has no value
                health.add_metric([seen.name], seen.health.up)
    yield from (requests, failures, rejected, full, limit, changes, state, in_flight, duration, health, checked)


def _suffixed(suffix: str, seen: Snapshot) -> Iterator[Metric]:
    """Yield a breaker's families without labels; untyped, for no counter may have such a name."""
    values = {
        "requests_total": ("Calls that were admitted and have ended", _outcomes(seen)),
        "failures_total": ("Calls that failed", seen.totals.failures),
        "state_changes_total": ("Changes of the circuit's state", sum(seen.changes.values())),
        "state": (
            "State: 0 closed, 1 open, 2 half-open, 3 forced open, 4 disabled, 5 metrics only",
            _STATES.index(seen.state),
        ),
    }
    for name, (help_, value) in values.items():
        yield UnknownMetricFamily(f"circuit_breaker_{name}_{suffix}", f"{help_}, breaker {seen.name}", value)
    yield HistogramMetricFamily(
        f"circuit_breaker_request_duration_seconds_{suffix}",
        f"Durations of calls that succeeded or failed, breaker {seen.name}",
        _buckets(seen.latency),
        seen.latency.sum,
    )


def _outcomes(seen: Snapshot) -> int:
    return sum(getattr(seen.totals, total) for total in _OUTCOMES.values())


def _buckets(latency: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, latency.bounds), "+Inf"]
    return list(zip(bounds, accumulate(latency.counts), strict=True))
