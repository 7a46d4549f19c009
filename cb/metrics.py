"""The metrics of breakers, read from the ledger: any worker answers for all of them.

Nothing is counted here. As a collector they go into a registry of prometheus_client; where several processes share a
registry's values through files, into the one that is made for the scrape. `text` is the same without a registry, and
many times as fast.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from prometheus_client.core import Metric, Sample

from .layout import BOUNDS, State
from .registry import Registry
from .snapshot import Figures

Labels = tuple[tuple[str, str], ...]

_OUTCOMES = {"success": "successes", "failure": "failures", "neutral": "neutral", "late": "late"}
_ARROWS = (
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.CLOSED),
    (State.HALF_OPEN, State.OPEN),
)
_STATES = tuple(State)
_LE = [("le", str(bound / 1e9)) for bound in BOUNDS] + [("le", "+Inf")]


@dataclass(slots=True)
class Family:
    """A metric: its series, and their values."""

    name: str
    kind: str
    help: str
    #: what a series has for a name beyond the family's, its labels, its value
    series: list[tuple[str, Labels, float]] = field(default_factory=list)

    def add(self, value: float, *labels: tuple[str, str]) -> None:
        self.series.append(("_total" if self.kind == "counter" else "", labels, value))

    def add_histogram(self, figures: Figures, *labels: tuple[str, str]) -> None:
        sums = list(accumulate(figures.latency.counts))
        self.series += [("_bucket", (*labels, le), number) for le, number in zip(_LE, sums, strict=True)]
        self.series += [("_count", labels, sums[-1]), ("_sum", labels, figures.latency.sum)]

    def metric(self) -> Metric:
        """Return it as prometheus_client has it."""
        metric = Metric(self.name, self.help, self.kind)
        metric.samples = [Sample(self.name + suffix, dict(labels), value) for suffix, labels, value in self.series]
        return metric

    def lines(self, *, openmetrics: bool) -> Iterator[str]:
        """Yield the lines of the text format of Prometheus, or of OpenMetrics, which differ in their heads."""
        name, kind = self.name, self.kind
        if not openmetrics:
            name, kind = name + ("_total" if kind == "counter" else ""), "untyped" if kind == "unknown" else kind
        yield f"# HELP {name} {_escape(self.help, quotes=openmetrics)}\n# TYPE {name} {kind}\n"
        for suffix, labels, value in self.series:
            yield f"{self.name}{suffix}{_braces(labels)} {float(value)}\n"


class BreakerCollector:
    """The metrics of a registry's breakers. `seed_names` adds those with the breaker's name as suffix."""

    def __init__(self, registry: Registry, *, seed_names: bool = False) -> None:
        self._registry = registry
        self._seed_names = seed_names

    def collect(self) -> Iterator[Metric]:
        """Yield all families with the values of this moment."""
        return (family.metric() for family in self._families())

    def text(self, *, openmetrics: bool = False) -> str:
        """Return all families as text, without the `# EOF` that ends a whole answer of OpenMetrics."""
        return "".join([line for family in self._families() for line in family.lines(openmetrics=openmetrics)])

    def _families(self) -> Iterator[Family]:
        seen = [breaker.figures() for breaker in self._registry]
        yield from _labelled(seen)
        ledger = self._registry.ledger
        degraded = Family(
            "circuit_breaker_ledger_degraded",
            "gauge",
            "1 if the processes of this host do not share the breakers as they should",
        )
        degraded.add(ledger.degraded is not None)
        yield degraded
        if fleet := ledger.fleet(time.monotonic_ns()):
            connected = Family("circuit_breaker_fleet_connected", "gauge", "1 if this host follows its fleet")
            connected.add(fleet.leads)
            hosts = Family("circuit_breaker_fleet_hosts", "gauge", "Hosts in the fleet, as seen last")
            hosts.add(fleet.hosts)
            yield from (connected, hosts)
        if self._seed_names:
            # Two names may differ in what a metric's name cannot hold, and no series may come twice.
            suffixes = {re.sub(r"[^a-zA-Z0-9_]", "_", each.name): each for each in reversed(seen)}
            for suffix, each in sorted(suffixes.items()):
                yield from _suffixed(suffix, each)


def _labelled(seen: list[Figures]) -> Iterator[Family]:
    def family(name: str, kind: str, help_: str) -> Family:
        return Family(f"circuit_breaker_{name}", kind, help_)

    requests = family("requests", "counter", "Calls that were admitted and have ended")
    failures = family("failures", "counter", "Calls that failed")
    rejected = family("rejected", "counter", "Calls that were refused")
    full = family("bulkhead_full", "counter", "Calls that were refused because too many ran")
    limit = family("bulkhead_limit", "gauge", "Calls that may run at once")
    changes = family("state_changes", "counter", "Changes of the circuit's state")
    state = family("state", "gauge", "1 for the state the circuit is in")
    in_flight = family("in_flight", "gauge", "Calls that are running")
    duration = family("request_duration_seconds", "histogram", "Durations of calls that succeeded or failed")
    threshold = family("failure_rate_threshold", "gauge", "Share of calls that failed which opens the circuit")
    health = family("health", "gauge", "1 if the latest health check found the dependency up, 0 if down")
    checked = family("health_check_age_seconds", "gauge", "Time since the latest health check ended")
    for each in seen:
        name, totals = ("name", each.name), each.totals
        for outcome, total in _OUTCOMES.items():
            requests.add(getattr(totals, total), name, ("outcome", outcome))
        failures.add(totals.failures, name)
        rejected.add(totals.rejected, name)
        full.add(totals.full, name)
        if each.limit:
            limit.add(each.limit, name)
        for before, after in dict.fromkeys((*_ARROWS, *each.changes)):
            changes.add(each.changes.get((before, after), 0), name, ("from", before.value), ("to", after.value))
        for one in _STATES:
            state.add(one is each.state, name, ("state", one.value))
        in_flight.add(each.in_flight, name)
        duration.add_histogram(each, name)
        if each.config.failure_rate_threshold:
            threshold.add(each.config.failure_rate_threshold, name)
        if each.health:
            checked.add(each.health.ago, name)
            if each.health.up is not None:  # what nobody knows any more has no value
                health.add(each.health.up, name)
    yield from (requests, failures, rejected, full, limit, changes, state, in_flight, duration, threshold)
    yield from (health, checked)


def _suffixed(suffix: str, seen: Figures) -> Iterator[Family]:
    """Yield a breaker's families without labels; of no known type, for no counter may have such a name."""
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
        family = Family(f"circuit_breaker_{name}_{suffix}", "unknown", f"{help_}, breaker {seen.name}")
        family.add(value)
        yield family
    duration = Family(
        f"circuit_breaker_request_duration_seconds_{suffix}",
        "histogram",
        f"Durations of calls that succeeded or failed, breaker {seen.name}",
    )
    duration.add_histogram(seen)
    yield duration


def _outcomes(seen: Figures) -> int:
    return sum(getattr(seen.totals, total) for total in _OUTCOMES.values())


@lru_cache(maxsize=2**16)  # the series of a process do not change, and of its breakers there are 1,024 at most
def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels)) + "}" if labels else ""


def _escape(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
