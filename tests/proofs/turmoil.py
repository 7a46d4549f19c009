"""Eight processes on one breaker that are killed, stopped and replaced at random, and the invariants they must keep.

`python -m tests.proofs.turmoil 60` runs it for a minute; `make prove` does. A second number limits their shards.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger, Snapshot, State
from cb.ledger import layout as at
from cb.ledger.locks import claim
from tests.support.waiting import Stopwatch, until

CONFIG = BreakerConfig(
    max_requests=3,
    success_threshold=2,
    interval=2.0,
    timeout=0.3,
    timeout_jitter=0.0,
    half_open_max_duration=1.0,
    minimum_requests=20,
    failure_threshold=None,
    failure_rate_threshold=0.5,
    slow_call_rate_threshold=None,
    call_timeout=0.5,
)
WORKERS = 8
WITNESSES = 2  # workers that are never killed or stopped: their calls show the delay that the others cause
LONGEST = 0.1  # seconds that a stopped sibling may cost a call


def work(path: str, report: str, seed: int) -> None:
    """Call until this process or its parent is killed; now and then fork a child that calls a few times and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    choose = random.Random(seed)
    breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(path))
    children, parent = 0, os.getppid()
    while os.getppid() == parent:
        call_on(breaker, report, choose, 200)
        children += 1
        if os.fork() == 0:
            call_on(breaker, f"{report}-{children}", choose, 20)
            breaker.ledger.close()  # a process without a shard may have counts that it could not add yet
            os._exit(0)


def call_on(breaker: CircuitBreaker, report: str, choose: random.Random, times: int) -> None:
    """Call, and write each outcome to the report before the next call."""
    with Path(report).open("a", buffering=1) as acknowledged:
        for _ in range(times):
            # The dependency fails half of the time, for all workers at the same time.
            error = OSError() if int(time.time()) % 4 < 2 and choose.random() < 0.8 else None
            watch = Stopwatch()
            try:
                with breaker as call:
                    if call.probe:
                        acknowledged.write(f"p {call._counters.word >> 16}\n")  # noqa: SLF001 - the round it votes in
                    if error:
                        raise error
                outcome = "s"
            except OSError:
                outcome = "f"
            except CircuitOpenError:
                outcome = "r"
            acknowledged.write(f"{outcome} {watch.seconds():.4f}\n")
            time.sleep(0.001)


@dataclass
class Turmoil:
    """The processes, and their counts and problems."""

    directory: Path
    seconds: float
    seed: int = 1
    shards: int = at.SHARDS  # shards of the ledger that the processes may claim
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0
    stops: int = 0
    problems: list[str] = field(default_factory=list)
    opened: int = 0
    started: int = 0

    def __post_init__(self) -> None:
        #: two ends of a pipe: each process has the second one open as long as it lives
        self.ended, self.lives = os.pipe()

    def run(self) -> dict[str, object]:
        """Disturb the processes for `seconds`. Return the counts; `problems` is empty if every invariant held."""
        choose = random.Random(self.seed)
        breaker = CircuitBreaker("d", CONFIG, ledger=Ledger.in_file(self.directory / "l"))
        before = breaker.snapshot()
        taken = [claim(f"{self.directory}/l.locks/{shard}") for shard in range(self.shards, at.SHARDS)]
        for _ in range(WORKERS):
            self.start()
        witnesses = [self.directory / f"report-{number}" for number in range(WITNESSES)]
        until(lambda: all(report.exists() for report in witnesses))
        end = time.monotonic() + self.seconds
        # Longer, if the dependency was well for most of the time: it is for two seconds at a stretch.
        while time.monotonic() < end or (self.opened < 3 and time.monotonic() < end + 10):
            time.sleep(choose.uniform(0.01, 0.15))
            self.disturb(choose)
            now = breaker.snapshot()
            self.compare(before, now)
            before = now
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
        os.close(self.lives)
        os.read(self.ended, 1)  # returns when the last child of a worker has closed its end
        os.close(self.ended)
        for file in taken:
            if file is not None:
                file.close()
        return self.settle(breaker)

    def start(self) -> None:
        self.started += 1
        report = self.directory / f"report-{self.started - 1}"
        command = [sys.executable, "-m", "tests.proofs.turmoil", "worker", str(self.directory / "l"), str(report)]
        seed = str(self.seed * 1000 + self.started)
        self.workers.append(
            subprocess.Popen([*command, seed], stderr=subprocess.DEVNULL, pass_fds=[self.lives])
        )  # SIGINT has a traceback

    def disturb(self, choose: random.Random) -> None:
        worker = choose.choice(self.workers[WITNESSES:])
        if choose.random() < 0.5:
            worker.send_signal(choose.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            try:
                worker.wait(2)
            except subprocess.TimeoutExpired:  # Python drops an interrupt that comes in a hook of os.fork
                worker.kill()
                worker.wait()
            self.workers.remove(worker)
            self.kills += 1
            self.start()
        else:
            worker.send_signal(signal.SIGSTOP)
            time.sleep(choose.uniform(0.0, 0.2))
            worker.send_signal(signal.SIGCONT)
            self.stops += 1

    def compare(self, before: Snapshot, now: Snapshot) -> None:
        for name in ("requests", "successes", "failures", "slow", "rejected", "neutral", "late"):
            if getattr(now.totals, name) < getattr(before.totals, name):
                self.problems.append(f"{name} went back: {before.totals} {now.totals}")
        if now.generation < before.generation:
            self.problems.append(f"generation went back: {before.generation} {now.generation}")
        self.opened += now.generation > before.generation

    def settle(self, breaker: CircuitBreaker) -> dict[str, object]:
        """Compare the totals with the reports of the workers, and verify that the breaker still works."""
        lines = [line.split() for path in self.directory.glob("report-*") for line in path.read_text().splitlines()]
        reported = {kind: sum(line[0] == kind for line in lines) for kind in "sfr"}
        witnessed = [(self.directory / f"report-{number}").read_text() for number in range(WITNESSES)]
        slowest = max(float(line.split()[1]) for text in witnessed for line in text.splitlines() if line[0] in "sfr")
        if slowest > LONGEST:
            self.problems.append(f"a call took {slowest:.3f} s")
        breaker.control.evaluate()
        totals = breaker.snapshot().totals
        # A killed call may be counted and not reported, or reported and counted twice; no other call.
        counted = totals.requests + totals.late + totals.neutral
        lost = reported["s"] + reported["f"] - counted
        if not -2 * (self.kills + WORKERS) <= lost <= self.kills + WORKERS:
            self.problems.append(f"{counted} counted, {reported} acknowledged, {self.kills} kills")
        rounds: dict[str, int] = {}
        for line in lines:
            if line[0] == "p":
                rounds[line[1]] = rounds.get(line[1], 0) + 1
        if rounds and max(rounds.values()) > CONFIG.max_requests:
            self.problems.append(f"{max(rounds.values())} probes in one round")
        if breaker.snapshot().in_flight:
            self.problems.append(f"{breaker.snapshot().in_flight} calls still run according to the ledger")
        end = time.monotonic() + 5
        while breaker.state is not State.CLOSED and time.monotonic() < end:
            try:
                breaker.call(int)
            except CircuitOpenError:
                time.sleep(0.02)
        if breaker.state is not State.CLOSED:
            self.problems.append(f"stuck: {breaker.explain()}")
        return {
            "seconds": self.seconds,
            "calls": reported,
            "counted": counted,
            "difference": lost,
            "kills": self.kills,
            "forks": len(list(self.directory.glob("report-*-*"))),
            "stops": self.stops,
            "changes of state seen": self.opened,
            "rounds": len(rounds),
            "most probes in a round": max(rounds.values(), default=0),
            "slowest call ms": round(slowest * 1000, 1),
            "problems": self.problems,
        }


def main(seconds: float, seed: int = 1, shards: int = at.SHARDS) -> dict[str, object]:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where services have it: no disk that stalls
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        return Turmoil(Path(directory), seconds, seed, shards).run()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    result = main(float(sys.argv[1]), shards=int(sys.argv[2]) if sys.argv[2:] else at.SHARDS)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    sys.exit(1 if result["problems"] else 0)
