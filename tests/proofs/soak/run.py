"""A run: all kinds of traffic while dependencies fail and recover, and workers are replaced and killed."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import psutil
import requests

from tests.proofs.chaos.clients import USERS, Clients
from tests.proofs.chaos.services import PACKAGES, Services
from tests.proofs.soak.judgement import growth, judged, steps_back
from tests.proofs.soak.samples import Sample, counters, sample

#: requests after which a worker of the gateway is replaced, plus up to half as many; the oldest worker of each other
#: service is never killed, so that some workers run for long
RECYCLE = 1500
READERS = 3
READS = (
    *(("gateway", f"/api/v1/portfolio/{user}") for user in USERS[:2]),
    ("gateway", "/api/v1/market-data/AAPL"),
    ("gateway", "/api/v1/trades?userId=user1&limit=20"),
    ("gateway", "/api/v1/notifications/user1"),
    ("gateway", "/api/v1/audit/trades?limit=20"),
    ("gateway", "/api/v1/nowhere"),
    *((service, path) for service in PACKAGES for path in ("/api/v1/health", "/dashboard/data", "/metrics")),
    ("market-data", "/api/v1/prices/AAPL"),
    ("portfolio", "/api/v1/portfolio/user1"),
)
TROUBLES = ({"failure_rate": 0.5}, {"is_healthy": False}, {"response_time_ms": 400}, {"is_healthy": False})
BREAKERS = {
    "market-data": ("market-data", "/api/v1"),
    "risk": ("gateway", "/api/v1/risk"),
    "audit": ("gateway", "/api/v1/audit"),
}


@dataclass
class Report:
    """The observations of a run and their defects."""

    seconds: float
    answers: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {name: [] for name in PACKAGES})
    #: judged processes, by service
    judged: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.0f} s: " + ", ".join(f"{number} {what}" for what, number in sorted(self.done.items()))
        ]
        lines.append("answers: " + ", ".join(f"{number} {what}" for what, number in self.answers.most_common()))
        for name, seen in self.samples.items():
            shown = [seen[int((len(seen) - 1) * share)] for share in (0.25, 0.5, 0.75, 1)]
            memory = " ".join(f"{sum(each.memory for each in one.workers) >> 20}" for one in shown)
            files = " ".join(str(max([each.descriptors for each in one.workers], default=0)) for one in shown)
            pids = {each.pid for one in seen for each in one.workers}
            lines.append(
                f"{name}: {len(pids)} workers, {self.judged.get(name, 0)} judged; "
                f"MiB of all at each quarter {memory}; descriptors of one {files}"
            )
        return "\n".join([*lines, *(self.problems or ["nothing grew, nothing went back, no client was told 500"])])


class Soak:
    """Services under full traffic for a time.

    Args:
        directory: Where logs and databases lie.
        seconds: Duration of the traffic.
        seed: Seed of all that is chosen at random.
        pace: Shortest and longest time in seconds between two failures, or recoveries, of a dependency.
    """

    def __init__(self, directory: Path, seconds: float, seed: int, *, pace: tuple[float, float] = (2.0, 5.0)) -> None:
        self._pace = pace
        self._report = Report(seconds)
        self._chance = random.Random(seed)
        self._state = directory / "state"
        self._services = Services(
            directory,
            {name: f"sqlite:///{directory / name}.db" for name in ("gateway", "portfolio")},
            options={"gateway": f"--max-requests {RECYCLE} --max-requests-jitter {RECYCLE // 2}"},
        )
        self._clients = Clients(self._services.ports["gateway"], seed)
        self._stop = threading.Event()

    def report(self) -> Report:
        """Run, and return the report."""
        threads = [threading.Thread(target=self._guarded, args=(each,)) for each in self._work()]
        try:
            self._services.start()
            self._clients.start()
            for thread in threads:
                thread.start()
            self._stop.wait(self._report.seconds)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
            self._clients.stop()
            self._services.stop()
        self._judge()
        return self._report

    def _work(self) -> list[Callable[[], None]]:
        return [*[self._read] * READERS, self._trouble, self._kill, self._watch]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # reported with the rest
            self._report.problems.append(f"{work.__name__}: {type(error).__name__}: {error}")
            self._stop.set()

    def _read(self) -> None:
        """Send read requests one after another. A killed worker may leave a request without a response."""
        chance = random.Random(self._chance.random())
        with requests.Session() as session:
            session.trust_env = False
            while not self._stop.wait(0.02):
                service, path = chance.choice(READS)
                try:
                    status = session.get(self._url(service) + path, timeout=10).status_code
                except requests.RequestException as error:
                    self._report.answers[type(error).__name__] += 1
                    continue
                self._report.answers[str(status)] += 1
                if status >= 500 and status != 503:
                    self._report.problems.append(f"{service} {path}: {status}")

    def _trouble(self) -> None:
        """Let the dependencies fail and recover in turn."""
        for (service, prefix), trouble in zip(cycle(BREAKERS.values()), cycle(TROUBLES), strict=False):
            for simulation in (trouble, {}):
                if self._stop.wait(self._chance.uniform(*self._pace)):
                    return
                self._simulate(f"{self._url(service)}{prefix}/simulate/failure", simulation)
                self._report.done["troubles" if simulation else "recoveries"] += 1

    def _simulate(self, url: str, simulation: dict[str, object]) -> None:
        """Set a simulation; retry if the worker is killed."""
        with requests.Session() as session:
            session.trust_env = False
            for _ in range(5):
                try:
                    session.post(url, json=simulation, timeout=10).raise_for_status()
                    return
                except requests.ConnectionError:
                    self._stop.wait(0.2)

    def _kill(self) -> None:
        while not self._stop.wait(self._chance.uniform(4.0, 8.0)):
            name = self._chance.choice(list(PACKAGES))
            self._report.done["kills"] += self._services.kill_worker(name, self._chance, spare_oldest=True)

    def _watch(self) -> None:
        """Sample all services once a second, from any worker."""
        begun = time.monotonic()
        seen: dict[str, dict[str, float]] = {name: {} for name in PACKAGES}
        while not self._stop.wait(1.0):
            for name in PACKAGES:
                try:
                    with requests.Session() as session:
                        session.trust_env = False
                        now = counters(self._url(name), session)
                except requests.ConnectionError:  # the worker was killed
                    continue
                self._report.problems += [f"{name}: {step}" for step in steps_back(seen[name], now)]
                seen[name] = now
                master = psutil.Process(self._services.pid(name))
                self._report.samples[name].append(sample(master, self._state, time.monotonic() - begun))

    def _url(self, service: str) -> str:
        return f"http://127.0.0.1:{self._services.ports[service]}"

    def _judge(self) -> None:
        report = self._report
        for each in self._clients.told:
            report.answers[f"order {each.http}"] += 1
            if each.http is not None and each.http >= 500 and each.http != 503:
                report.problems.append(f"an order: {each.http} {each.code}")
        for name, seen in report.samples.items():
            report.problems += [f"{name}: {grown}" for grown in growth(seen)]
            report.judged[name] = sum(1 for _ in judged(seen))
        for name, log in self._services.logs().items():
            lines = [line for line in log.splitlines() if "Traceback" in line or '"status": 500' in line]
            report.problems += [f"{name}: {line[:1000]}" for line in lines[:5]]
