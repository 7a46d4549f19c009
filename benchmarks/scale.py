"""Many hosts with one server: the cost for the server, and the time until all hosts know of an open circuit.

Agents and server are real. Two processes run the agents in turns, where each would be a thread of its own host. They
skip the waits of `Agent.run_once`, and use a longer interval when they cannot keep the default one.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
from rich.console import Console

from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.fleet.agent import HEARTBEAT_SECONDS, Agent
from cb.fleet.server import Server
from cb.testing import Worker, workers

from .result import Check, Result
from .table import show
from .valkey import server

DRIVERS = 2
#: Default seconds between two synchronizations of a host.
INTERVAL = 0.1
#: Minimum rounds of a run, and circuits opened in it to measure propagation.
ROUNDS, TRIALS = 3, 5
#: Opens on ten consecutive failures, five on each of two hosts, so that neither host opens alone.
FAILING = BreakerConfig(failure_threshold=10, failure_rate_threshold=None, timeout=300)
#: Commands of a heartbeat, which each host sends once a second at any interval; they are excluded.
HEARTBEAT = 6
#: Figures of a run. `hbi`: per host, changed breaker and interval. Commands include those made by the scripts.
COLUMNS = (
    *("interval s", "calls /s", "commands /s", "calls /hbi", "commands /hbi", "kB in /s", "kB out /s"),
    *("CPU %", "CPU us /call", "script us /call", "all open ms", "worst ms"),
)
COMMANDS_PER = COLUMNS.index("commands /hbi")
Stats = tuple[float, ...]
#: The driver of this process, if it is one.
_driver: list["Driver"] = []


@dataclass(frozen=True, slots=True)
class Load:
    """Load of each host: `changed` breakers make `calls` each in an interval, `idle` ones none."""

    agents: int
    changed: int = 1
    idle: int = 0
    calls: int = 1

    def __str__(self) -> str:
        more = (f", {self.idle} idle" if self.idle else "") + (f", {self.calls} calls" if self.calls > 1 else "")
        return f"{self.agents} x {self.changed}{more}"


class Host:
    """A ledger, its breakers, and its agent."""

    def __init__(self, url: str, load: Load) -> None:
        self._ledger = Ledger.in_memory()
        self._busy = [self.breaker(f"busy-{number}")(_clock) for number in range(load.changed)]
        self._idle = [self.breaker(f"idle-{number}") for number in range(load.idle)]
        self._calls = load.calls
        self._server = Server(url, "scale")
        self._agent = Agent(
            self._server,
            self._ledger,
            sync_interval=INTERVAL,
            clock=_clock,
            wall_clock=time.time_ns,
            emit=lambda _: None,
        )
        self._heartbeat_at = 0
        self.heartbeats = self.due = 0
        self.failing: CircuitBreaker

    def breaker(self, name: str, config: BreakerConfig | None = None) -> CircuitBreaker:
        # With its own clock, a breaker is not checked by the watchdog of the process, which is made for one host.
        return CircuitBreaker(name, config, ledger=self._ledger, clock=_clock)

    def notifications(self) -> set[str]:
        changed = self._server.changed(0.0)
        return set(self._ledger.names()) if changed is None else changed  # None stands for all breakers

    def turn(self, changed: set[str] | None = None) -> None:
        """Make the calls of an interval, and synchronize."""
        for call in self._busy:
            for _ in range(self._calls):
                call()
        if (now := _clock()) >= self._heartbeat_at:
            self._server.heartbeat(self._agent.host)
            self._heartbeat_at, self.heartbeats = now + round(HEARTBEAT_SECONDS * 1e9), self.heartbeats + 1
        self._agent.sync(self.notifications() if changed is None else changed, now)

    def fail(self) -> None:
        with suppress(OSError):
            self.failing.call(Path("/").read_text)  # a directory


class Driver:
    """Some of the hosts, in a process of its own. Its methods are called through `_call_all`."""

    def __init__(self, number: int, url: str, load: Load) -> None:
        self._number = number
        self._hosts = [Host(url, load) for _ in range(number, load.agents, DRIVERS)]

    def warm(self) -> float:
        """Connect to the server. Return the seconds of a round after the first reports."""
        begin = 0
        for _ in range(3):
            begin = _clock()
            for host in self._hosts:
                host.turn()
        return (_clock() - begin) / 1e9

    def run(self, start: int, interval: int, rounds: int) -> tuple[float, int]:
        """Run every host once in each interval. Return the seconds, and the number of heartbeats."""
        heartbeats = sum(host.heartbeats for host in self._hosts)
        for turn in range(rounds):
            for place, host in enumerate(self._hosts):
                time.sleep(max(start + (turn + place / len(self._hosts)) * interval - _clock(), 0) / 1e9)
                host.turn()
        took = max(_clock() - start, rounds * interval) / 1e9
        return took, sum(host.heartbeats for host in self._hosts) - heartbeats

    def add_failing(self, trial: int) -> None:
        """Make a call through a new circuit on every host, so that all have traffic."""
        for host in self._hosts:
            host.failing = host.breaker(f"failing-{trial}", FAILING)
            host.failing.call(_clock)
            host.turn()

    def spread(self, start: int, interval: int) -> tuple[int, int]:
        """Let it fail on the first hosts. Return the times of the last failure, after `start`, and the last opening."""
        first, failed, opened, closed = self._hosts[0], 0, 0, set(self._hosts)
        for _ in range((5, 4)[self._number]):
            first.fail()
        first.turn()
        for place, host in enumerate(self._hosts):
            host.due = start + round(place / len(self._hosts) * interval)
        while closed and _clock() < start + 30e9:
            if self._number == 1 and not failed and _clock() >= start:
                first.fail()
                failed = _clock()
                # The wait for the host's next synchronization is that of the default interval.
                first.due = failed + round(random.uniform(0, INTERVAL) * 1e9)  # noqa: S311 - not for cryptography
            for host in self._hosts:
                changed = host.notifications()
                if changed or _clock() >= host.due:
                    host.due += interval
                    host.turn(changed)
                if host in closed and host.failing.state is State.OPEN:
                    closed.remove(host)
                    opened = _clock()
        return failed, opened if not closed else sys.maxsize


def measure(load: Load, seconds: float) -> Stats:
    """Run a load. Return a figure for each of COLUMNS."""
    with tempfile.TemporaryDirectory() as place, server(Path(place)) as (pid, url), workers(DRIVERS, "fork") as drivers:
        for number, driver in enumerate(drivers):
            driver.call(_begin, number, url, load)
        client: Any = redis.Redis.from_url(url)
        interval = max(INTERVAL, 1.2 * max(_call_all(drivers, "warm")))
        rounds = max(ROUNDS, round(seconds / interval))
        before, cpu = client.info("all"), sum(psutil.Process(pid).cpu_times()[:2])
        ran = _call_all(drivers, "run", _clock() + 20_000_000, round(interval * 1e9), rounds)
        after, cpu = client.info("all"), sum(psutil.Process(pid).cpu_times()[:2]) - cpu
        spans = []
        for trial in range(TRIALS):
            _call_all(drivers, "add_failing", trial)
            times = _call_all(drivers, "spread", _clock() + 200_000_000, round(interval * 1e9))
            spans.append((max(opened for _, opened in times) - max(failed for failed, _ in times)) / 1e6)
    took, heartbeats = max(seconds for seconds, _ in ran), sum(heartbeats for _, heartbeats in ran)
    scripts, spent = (after["cmdstat_evalsha"][key] - before["cmdstat_evalsha"][key] for key in ("calls", "usec"))
    calls = scripts - heartbeats
    commands = after["total_commands_processed"] - before["total_commands_processed"] - heartbeats * HEARTBEAT
    received, sent = (after[key] - before[key] for key in ("total_net_input_bytes", "total_net_output_bytes"))
    due = load.agents * load.changed * rounds
    return (
        *(took / rounds, calls / took, commands / took, calls / due, commands / due, received / took / 1000),
        *(sent / took / 1000, 100 * cpu / took, 1e6 * cpu / scripts, spent / scripts),
        *(statistics.median(spans), max(spans)),
    )


def _checks(found: dict[Load, Stats], plain: Sequence[Load]) -> list[Check]:
    """Compare figures that must be equal: between sizes, and with and without further calls or idle breakers."""
    checks = []
    for column in (COLUMNS.index("calls /hbi"), COMMANDS_PER):
        figures = [found[load][column] for load in plain]
        checks.append(Check(f"{COLUMNS[column]}, most / least of all sizes", max(figures) / min(figures), 1.2))
    for load in [load for load in found if load not in plain]:
        ratio = found[load][COMMANDS_PER] / found[Load(load.agents, load.changed)][COMMANDS_PER]
        checks.append(Check(f"{COLUMNS[COMMANDS_PER]}, {load} / the same without", ratio, 1.1))
    return checks


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    for name, default in (("--agents", "10,50,100,200,500"), ("--breakers", "1,10,50")):
        parser.add_argument(name, default=default, type=lambda text: list(map(int, text.split(","))))
    parser.add_argument("--seconds", default=5.0, type=float)
    options = parser.parse_args()
    plain = [Load(agents, changed) for agents in options.agents for changed in options.breakers]
    base = next((load for load in plain if load.agents >= 50), plain[-1])
    more = [Load(base.agents, base.changed, idle=49), *(Load(base.agents, base.changed, calls=n) for n in (10, 100))]
    found = {}
    for load in (*plain, *more):
        found[load] = measure(load, options.seconds)
        print(load, *(f"{figure:.5g}" for figure in found[load]), file=sys.stderr)
    title = f"Hosts x changed breakers; an interval above {INTERVAL} s is a limit of the simulator"
    result = Result(title, COLUMNS, {str(load): figures for load, figures in found.items()}, _checks(found, plain))
    show(result, Console(width=150))
    print(json.dumps(asdict(result)))
    return 0 if all(check.met for check in result.checks) else 1


def _call_all(drivers: Sequence[Worker], method: str, *arguments: object) -> list[Any]:
    """Call a method of all drivers at once. Return the results."""
    with ThreadPoolExecutor(DRIVERS) as pool:
        return list(pool.map(lambda driver: driver.call(_do, method, *arguments), drivers))


def _begin(number: int, url: str, load: Load) -> None:
    _driver.append(Driver(number, url, load))


def _do(method: str, *arguments: object) -> Any:
    return getattr(_driver[0], method)(*arguments)


def _clock() -> int:
    return time.monotonic_ns()


if __name__ == "__main__":
    sys.exit(main())
