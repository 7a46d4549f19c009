"""Metrics of breakers for Prometheus, read from the ledger: each worker reports all breakers of the host.

Register a `BreakerCollector` in a registry of prometheus_client; with its multiprocess mode, in the registry that is
created for the scrape. `BreakerCollector.text` writes the same text without a registry, many times faster.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from cb.clocks import monotonic_ns
from cb.extras import needs
from cb.registry import Registry
from cb.snapshot import Histogram, Stats
from cb.states import State

with needs("prometheus", "prometheus_client"):
    from prometheus_client.core import Metric, Sample

Labels = tuple[tuple[str, str], ...]

_OUTCOMES = {"success": "successes", "failure": "failures", "neutral": "neutral", "late": "late"}
_ARROWS = (
    (State.CLOSED, State.OPEN),
    (State.OPEN, State.HALF_OPEN),
    (State.HALF_OPEN, State.CLOSED),
    (State.HALF_OPEN, State.OPEN),
)
_STATES = tuple(State)
#: names of breakers whose metrics would have the name of a labelled metric, or of a part of one
_TAKEN = frozenset({"bucket", "changes", "count", "created", "sum", "total"})


@dataclass(slots=True)
class Family:
    """A metric family: its series, by their labels."""

    #: name without a suffix such as `_total`
    name: str
    #: type: counter, gauge, histogram or unknown
    kind: str
    #: description in one line
    help: str
    #: labels and value of each series
    values: list[tuple[Labels, float]] = field(default_factory=list)
    #: labels and buckets of each histogram
    histograms: list[tuple[Labels, Histogram]] = field(default_factory=list)

    def add(self, value: float, *labels: tuple[str, str]) -> None:
        """Add a series."""
        self.values.append((labels, value))

    def metric(self) -> Metric:
        """Return the family in the form of prometheus_client."""
        metric = Metric(self.name, self.help, self.kind)
        total = "_total" if self.kind == "counter" else ""
        metric.samples = [Sample(self.name + total, dict(labels), value) for labels, value in self.values]
        for labels, seen in self.histograms:
            sums = _sums(seen)
            for le, number in zip(_les(seen.bounds), sums, strict=True):
                metric.add_sample(f"{self.name}_bucket", {**dict(labels), "le": le}, number)
            metric.add_sample(f"{self.name}_count", dict(labels), sums[-1])
            metric.add_sample(f"{self.name}_sum", dict(labels), seen.sum)
        return metric

    def lines(self, *, openmetrics: bool) -> Iterator[str]:
        """Yield the lines of the text format of Prometheus or OpenMetrics, whose headers differ."""
        total = "_total" if self.kind == "counter" else ""
        name, kind = self.name, self.kind
        if not openmetrics:
            name, kind = name + total, "untyped" if kind == "unknown" else kind
        yield f"# HELP {name} {_escape(self.help, quotes=openmetrics)}\n# TYPE {name} {kind}\n"
        for labels, value in self.values:
            yield f"{self.name}{total}{_braces(labels)} {float(value)}\n"
        for labels, seen in self.histograms:
            sums = _sums(seen)
            yield _bars(self.name, labels, seen.bounds) % (*sums, sums[-1], seen.sum)


def text(families: Iterable[Family], *, openmetrics: bool) -> str:
    """Return families in the text format of Prometheus or OpenMetrics."""
    return "".join([line for family in families for line in family.lines(openmetrics=openmetrics)])


class BreakerCollector:
    """A collector of the metrics of a registry's breakers.

    Args:
        registry: The breakers.
        per_breaker_names: True for additional metrics with the breaker's name as suffix, without labels.
    """

    def __init__(self, registry: Registry, *, per_breaker_names: bool = False) -> None:
        self._registry = registry
        self._per_breaker_names = per_breaker_names

    def __repr__(self) -> str:
        return f"<BreakerCollector of {self._registry!r}>"

    def collect(self) -> Iterator[Metric]:
        """Yield all families with their current values."""
        return (family.metric() for family in self._families())

    def text(self, *, openmetrics: bool = False) -> str:
        """Return all families as text, without the `# EOF` that ends an OpenMetrics response."""
        return text(self._families(), openmetrics=openmetrics)

    def _families(self) -> Iterator[Family]:
        seen = list(self._registry.stats())
        yield from _labelled(seen)
        ledger = self._registry.ledger
        degraded = Family(
            "circuit_breaker_ledger_degraded",
            "gauge",
            "1 if the processes of this host do not share the breakers as they should",
        )
        degraded.add(ledger.core.degraded_on_host(monotonic_ns()))
        yield degraded
        if fleet := ledger.fleet():
            connected = Family("circuit_breaker_fleet_connected", "gauge", "1 if this host follows its fleet")
            connected.add(fleet.connected)
            hosts = Family("circuit_breaker_fleet_hosts", "gauge", "Hosts in the fleet, as seen last")
            hosts.add(fleet.hosts)
            apart = Family(
                "circuit_breaker_fleet_apart", "gauge", "1 if the fleet has no sound answer for this breaker"
            )
            for each in seen:
                apart.add(each.name in fleet.unreachable, ("name", each.name))
            yield from (connected, hosts, apart)
        if self._per_breaker_names:
            # Two names may differ only in characters that metric names lack, and no series may occur twice.
            suffixes = {re.sub(r"[^a-zA-Z0-9_]", "_", each.name): each for each in reversed(seen)}
            for suffix, each in sorted(suffixes.items()):
                if suffix not in _TAKEN:
                    yield from _suffixed(suffix, each)


def _labelled(seen: list[Stats]) -> Iterator[Family]:
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
        duration.histograms.append(((name,), each.latency))
        if each.config.failure_rate_threshold:
            threshold.add(each.config.failure_rate_threshold, name)
        if each.health:
            checked.add(each.health.ago, name)
            if each.health.up is not None:  # an unknown health has no value
                health.add(each.health.up, name)
    yield from (requests, failures, rejected, full, limit, changes, state, in_flight, duration, threshold)
    yield from (health, checked)


def _suffixed(suffix: str, seen: Stats) -> Iterator[Family]:
    """Yield a breaker's families without labels; of unknown type, because counters need the suffix `_total`."""
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
    duration.histograms.append(((), seen.latency))
    yield duration


def _outcomes(seen: Stats) -> int:
    return sum(getattr(seen.totals, total) for total in _OUTCOMES.values())


def _sums(seen: Histogram) -> list[float]:
    """Return the cumulative count of each bucket, including the infinite one."""
    return list(map(float, accumulate(seen.counts)))


def _les(bounds: tuple[float, ...]) -> list[str]:
    return [*map(str, bounds), "+Inf"]


# The series of a process do not change, and it has at most 1,024 breakers.
@lru_cache(maxsize=2**16)
def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels)) + "}" if labels else ""


@lru_cache(maxsize=2**12)
def _bars(name: str, labels: Labels, bounds: tuple[float, ...]) -> str:
    """Return the lines of a histogram with placeholders for its values."""
    series = [f"{name}_bucket{_braces((*labels, ('le', le)))}" for le in _les(bounds)]
    series += [f"{name}_{what}{_braces(labels)}" for what in ("count", "sum")]
    return "".join(each.replace("%", "%%") + " %s\n" for each in series)


def _escape(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
