"""Measurements of a fleet: `python -m tests.proofs.fleet` prints them, and fails if a limit is exceeded."""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from cb import State
from cb.testing import Worker
from tests.fleet.hosts import CONFIG, Host, all_in, everyone, hosts, together
from tests.fleet.inside import end_traffic, start_traffic
from tests.fleet.measures import burst, drain, fail_and_see, hold_and_see, probe_and_see, see, undisturbed
from tests.fleet.proxy import Proxy
from tests.support.redis_servers import BINARIES, Server
from tests.support.waiting import until

#: Seconds between two synchronizations of a host.
SYNC = 0.1
#: Milliseconds until every worker of every host sees an opening.
MEDIAN, WORST = 50, 250


@dataclass
class Proof:
    """The measurements, and the limits that they exceed."""

    #: thresholds for the measurement of leaked calls
    thresholds: tuple[int, ...]
    #: openings of each kind
    openings: int
    #: seconds
    probing: float
    #: bursts of calls for each fault, and calls of a burst
    bursts: int
    calls: int
    #: maximum ratio of a call's duration with and without a fleet
    slowdown: float
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Run all measurements. `problems` is empty if no limit was exceeded."""
        for measure in (self.leak, self.propagation, self.recovery, self.probes, self.latency):
            with (
                tempfile.TemporaryDirectory() as directory,
                Server(BINARIES["valkey"], Path(directory) / "s") as server,
            ):
                self.figures[measure.__name__] = measure(server, Path(directory))
        return {**self.figures, "problems": self.problems}

    def require(self, name: str, value: float, limit: float) -> None:
        if not value <= limit:
            self.problems.append(f"{name}: {value:.4g}, at most {limit:.4g}")

    def leak(self, server: Server, directory: Path) -> dict[str, Any]:
        """Count the calls that reach a dead dependency from eight hosts with two workers each."""
        figures: dict[str, Any] = {}
        for threshold in self.thresholds:
            config = replace(CONFIG, failure_threshold=threshold, failure_rate_threshold=None, timeout=60)
            fleet = f"leak-{threshold}"
            with hosts(directory, [server.url] * 8, processes=2, config=config, fleet=fleet, names=fleet) as made:
                processes = everyone(made)
                free = sum(together(processes, undisturbed, soon(), 0.5)) * SYNC / 0.5
                ended = together(processes, drain, soon(), 0.8)
                all_in(State.OPEN, made)
            reached, last = sum(count for count, _ in ended), max(when for _, when in ended)
            limit = threshold + len(processes) + free
            self.require(f"calls that reached it, threshold {threshold}", reached, limit)
            figures[f"threshold {threshold}"] = {
                "calls that reached it": reached,
                "limit": round(limit),
                "calls of all workers in a sync_interval": round(free),
                "last of them after ms": round(last * 1000),
                "thresholds of all hosts together": threshold * len(made),
            }
        return figures

    def propagation(self, server: Server, directory: Path) -> dict[str, Any]:
        """Open a fleet of four hosts with two workers each, by an operator and by failures on all hosts."""
        config = replace(CONFIG, minimum_requests=8, failure_rate_threshold=0.5, timeout=60)
        by_hold, by_failures = [], []
        with hosts(directory, [server.url] * 4, processes=2, config=config) as made:
            processes = everyone(made)
            for number in range(2 * self.openings):
                operated = number % 2 == 0
                # At varying times within the interval: synchronizations follow the previous event.
                begin = soon() + number * 0.618 % 1 * SYNC
                state = State.FORCED_OPEN if operated else State.OPEN
                doing: list[Callable[..., Any]] = [see if operated else fail_and_see] * len(processes)
                if operated:
                    doing[0] = hold_and_see
                seen = each(processes, doing, begin, state)
                if operated:  # the operator's own host changes at once
                    by_hold += [(when - seen[0][0]) * 1000 for _, when in seen[2:]]
                else:
                    last = max(when for when, _ in seen)
                    by_failures += [(when - last) * 1000 for _, when in seen]
                self.close(made)
        figures = {"after an operator's hold": _spread(by_hold), "after the last failure": _spread(by_failures)}
        self.require("median ms after a hold", median(by_hold), MEDIAN)
        for name, times in (("hold", by_hold), ("last failure", by_failures)):
            self.require(f"worst ms after a {name}", max(times), WORST)
        return figures

    def recovery(self, server: Server, directory: Path) -> dict[str, Any]:
        """Let one probe close a fleet of four hosts with two workers each."""
        config = replace(CONFIG, minimum_requests=8, failure_rate_threshold=0.5, timeout=0.2, success_threshold=1)
        times = []
        with hosts(directory, [server.url] * 4, processes=2, config=config) as made:
            processes = everyone(made)
            for _ in range(self.openings):
                each(processes, [fail_and_see] * len(processes), soon(), State.OPEN)
                until(lambda: all(host.fleet_controlled for host in made), seconds=3)
                doing: list[Callable[..., Any]] = [probe_and_see] + [see] * (len(processes) - 1)
                seen = each(processes, doing, soon(), State.CLOSED)
                times += [(when - seen[0][0]) * 1000 for _, when in seen]
                self.close(made)
        self.require("worst ms after the last probe", max(times), SYNC * 1000)
        return {"after the last probe": _spread(times)}

    @staticmethod
    def close(made: list[Host]) -> None:
        made[-1].reset()
        all_in(State.CLOSED, made)
        # The reset must have reached all hosts, or it would empty their windows during the next opening.
        until(lambda: made[-1].published and len({host.known for host in made}) == 1, seconds=3)

    def probes(self, server: Server, directory: Path) -> dict[str, Any]:
        """Count the probes of all hosts while a dependency stays dead."""
        with hosts(directory, [server.url] * 4, processes=2, config=replace(CONFIG, timeout=0.1)) as made:
            processes = everyone(made)
            together(processes, start_traffic, True, 0.002, 0.02)
            end = time.monotonic() + self.probing
            until(lambda: time.monotonic() > end, seconds=self.probing + 5)
            seen = together(processes, end_traffic)
        rounds = sum((one.probes for one in seen), Counter[int]())
        most = max(rounds.values(), default=0)
        self.require("probes in a round", most, CONFIG.max_requests)
        if len(rounds) < self.probing:
            self.problems.append(f"only {len(rounds)} rounds in {self.probing} s")
        return {"rounds": len(rounds), "most probes in a round": most, "allowed": CONFIG.max_requests}

    def latency(self, server: Server, directory: Path) -> dict[str, Any]:
        """Time calls of hosts with and without a fleet, in turns, during each fault of the server."""
        figures = {}
        with Proxy(server.port) as proxy, hosts(directory, [None, None, proxy.url, server.url], joined=False) as made:
            until(lambda: all(host.known for host in made[2:]), seconds=5)
            for name, fault in faults(server, proxy).items():
                with fault:
                    figures[name] = self.compare(name, made)
                until(lambda: all(time.monotonic_ns() - host.last_sync < 1e9 for host in made[2:]), seconds=10)
        return figures

    def compare(self, name: str, made: list[Host]) -> dict[str, Any]:
        names = ("without", "without, again", "through the proxy", "direct")
        seen: dict[str, list[tuple[float, float, float]]] = {each: [] for each in names}
        for number in range(self.bursts):
            for place in range(len(names)):  # in another order each time
                which = (place + number) % len(names)
                seen[names[which]].append(made[which].call(burst, self.calls))
        p99 = {each: [p99 for _, p99, _ in times] for each, times in seen.items()}
        # Bursts of the same time are compared, because the speed of the machine changes.
        base = [(one + other) / 2 for one, other in zip(p99[names[0]], p99[names[1]], strict=True)]
        ratio = {each: median(a / b for a, b in zip(p99[each], base, strict=True)) for each in names}
        for each in names[2:]:
            self.require(f"p99 with the server {name}, {each}", ratio[each], self.slowdown)
        return {
            "p99 ns": {each: round(median(values)) for each, values in p99.items()},
            "ratio": {each: round(value, 3) for each, value in ratio.items()},
            "longest ms": {each: round(max(most for *_, most in times) / 1e6, 2) for each, times in seen.items()},
        }


def faults(server: Server, proxy: Proxy) -> dict[str, Any]:
    """Return faults of the server, or of one host's network. Each ends with its block."""

    @contextmanager
    def fine() -> Iterator[None]:
        yield

    @contextmanager
    def stopped() -> Iterator[None]:
        server.stop()
        yield
        server.resume()

    @contextmanager
    def killed() -> Iterator[None]:
        server.kill()
        yield
        server.start()

    @contextmanager
    def through(mode: Any) -> Iterator[None]:
        proxy.set(mode)
        yield
        proxy.set("pass")

    return {
        "fine": fine(),
        "stopped": stopped(),
        "killed": killed(),
        "back, empty": fine(),
        "cut off": through("cut"),
        "swallowed": through("hang"),
    }


def each(processes: list[Worker], doing: list[Callable[..., Any]], *args: Any) -> list[Any]:
    """Run a function for each worker, all at once. Return the results."""
    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda worker, fn: worker.call(fn, *args), processes, doing))


def soon() -> float:
    """Return a time by which all processes are ready."""
    return time.monotonic() + 0.1


def _spread(times: list[float]) -> dict[str, float]:
    return {"seen": len(times), "median ms": round(median(times), 1), "worst ms": round(max(times), 1)}


if __name__ == "__main__":
    result = Proof(thresholds=(10, 400), openings=40, probing=10, bursts=60, calls=20_000, slowdown=1.1).run()
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    sys.exit(1 if result["problems"] else 0)
