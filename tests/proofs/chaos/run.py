"""A run: services, clients, faults and kills at once; then the services settle and the invariants are checked."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from servicekit.database import Database
from tests.proofs.chaos import surroundings
from tests.proofs.chaos.clients import Clients
from tests.proofs.chaos.facts import Facts, look
from tests.proofs.chaos.invariants import INVARIANTS
from tests.proofs.chaos.proxy import Proxy
from tests.proofs.chaos.report import Report
from tests.proofs.chaos.services import Services, free_ports
from tests.support.databases import PostgreSQL

#: share of the audit's calls that fail during the whole run
AUDIT_FAILS = 0.2
#: maximum extension of a run in seconds until it has covered everything
EXTRA = 60.0
#: kinds of kills: one worker, or the master and all workers
VICTIMS = [(kind, name) for kind in ("worker", "service") for name in ("portfolio", "gateway")]


class Run:
    """A run with some seconds of faults. With a planted bug it ends at the first violated invariant."""

    def __init__(
        self, directory: Path, *, seconds: float, seed: int, database: str = "sqlite", bug: str | None = None
    ) -> None:
        self._directory = directory
        self._seconds = seconds
        self._report = Report(seed, database, bug)
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._kills: Counter[str] = Counter()

    def report(self) -> Report:
        """Run, and return the report. Raises AssertionError if a service does not restart."""
        report = self._report
        with _databases(report.database, self._directory) as self._databases:
            between = free_ports(1)[0]
            self._services = Services(self._directory, self._databases, between, report.bug)
            self._clients = Clients(self._services.ports["gateway"], report.seed)
            with Proxy(between, self._services.ports["portfolio"], report.seed) as self._proxy:
                try:
                    self._services.start()
                    facts = self._disturb() or self._settle()
                finally:
                    self._services.stop()
            facts = replace(facts, logs=self._services.logs(), faults=self._proxy.met, kills=self._kills)
        self._judge(facts)
        return report

    def _disturb(self) -> Facts | None:
        """Cause all faults at once. Return the facts that show a planted bug, if any."""
        self._services.fail_audit(AUDIT_FAILS)
        disturbers = [threading.Thread(target=self._guard, args=(each,)) for each in (self._kill, self._cut)]
        begun, seen = time.monotonic(), None
        for thread in disturbers:
            thread.start()
        self._clients.start()
        try:
            while not (seen or self._errors or self._done(begun)):
                self._stop.wait(0.5)
                seen = self._look_for_bug() if self._report.bug else None
        finally:
            self._report.lasted = time.monotonic() - begun
            self._stop.set()
            for thread in disturbers:
                thread.join()
            self._proxy.heal()
            self._healed = time.monotonic()
            self._clients.stop()
        if self._errors:
            raise self._errors[0]
        return seen

    def _done(self, begun: float) -> bool:
        """Return True if the time is over and every kind of fault has occurred; on a slow machine this takes longer."""
        left = begun + self._seconds - time.monotonic()
        if left > 0 or self._report.bug or left < -EXTRA:
            return left <= 0
        told = list(self._clients.told)
        facts = look(self._databases, told=told, faults=self._proxy.met, kills=self._kills)
        return not any(True for _ in surroundings.coverage(facts))

    def _look_for_bug(self) -> Facts | None:
        facts = look(self._databases)
        return facts if any(True for each in INVARIANTS if each.always for _ in each.check(facts)) else None

    def _settle(self) -> Facts:
        """Wait until all trades are settled, read everything again, and return the facts."""
        facts = look(self._databases)
        while not _quiet(facts) and time.monotonic() - self._healed <= surroundings.LIMIT:
            threading.Event().wait(0.2)
            facts = look(self._databases)
        took = self._report.settled = time.monotonic() - self._healed
        self._proxy.wait_for_the_late()
        self._clients.look_again()
        verified = self._services.get("gateway", "/api/v1/audit/verify")
        return look(self._databases, told=self._clients.told, verified=verified, settled=True, took=took)

    def _kill(self) -> None:
        """Kill workers and services repeatedly, each kind once before any is repeated.

        The gateway is killed at critical moments: while a response of the portfolio is in flight, or writers wait.
        """
        chance = random.Random(self._report.seed)
        victims: list[tuple[str, str]] = []
        while not self._stop.wait(chance.uniform(0.3, 2.5)):
            victims = victims or chance.sample(VICTIMS, len(VICTIMS))
            kind, name = victims.pop()
            with self._moment(chance) if name == "gateway" else nullcontext():
                if kind == "worker":
                    self._kills[kind] += self._services.kill_worker(name, chance)
                    continue
                self._services.restart(name)
            self._kills[kind] += 1
            self._services.wait_for(name)
            if name == "gateway":  # it resets the simulated faults at its start
                self._services.fail_audit(AUDIT_FAILS)

    def _moment(self, chance: random.Random) -> AbstractContextManager[None]:
        return self._proxy.held_answer() if chance.random() < 0.5 else _stalled(self._databases["gateway"])

    def _cut(self) -> None:
        """Cut the network at intervals, so that circuits open."""
        chance = random.Random(self._report.seed)
        while not self._stop.wait(chance.uniform(2.0, 6.0)):
            self._proxy.cut()
            self._stop.wait(chance.uniform(0.2, 1.0))
            self._proxy.mend()

    def _guard(self, disturb: Callable[[], None]) -> None:
        try:
            disturb()
        except BaseException as error:  # noqa: BLE001  # re-raised by the thread that waits
            self._errors.append(error)

    def _judge(self, facts: Facts) -> None:
        report = self._report
        report.states = Counter(f"{each.state} {each.code or ''}".strip() for each in facts.trades)
        report.answers = Counter(_words(each) for each in self._clients.told)
        report.faults, report.kills = facts.faults, facts.kills
        asked = [each for each in INVARIANTS if each.always or facts.settled]
        report.violations = {each.name: list(each.check(facts)) for each in asked}


def _quiet(facts: Facts) -> bool:
    """Return True if no trade is pending and no entry is undelivered."""
    return not {"RECEIVED", "APPLYING"} & set(facts.states.values()) and all(
        row.audited and row.notified for row in facts.journal
    )


def _words(answer: Any) -> str:
    if answer.http is None:
        return "without an answer"
    return f"{answer.http} {answer.status or answer.code}{' replayed' if answer.replayed else ''}"


@contextmanager
def _stalled(url: str) -> Iterator[None]:
    """Lock a database against writers during the block, which starts when some of them wait."""
    database = Database(url)
    try:
        with database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE trades IN EXCLUSIVE MODE"))
            threading.Event().wait(0.2)
            yield
    finally:
        database.close()


@contextmanager
def _databases(kind: str, directory: Path) -> Iterator[dict[str, str]]:
    names = ("gateway", "portfolio")
    if kind == "sqlite":
        yield {name: f"sqlite:///{directory / name}.db" for name in names}
        return
    with PostgreSQL.running() as server:
        yield {name: server.create(name) for name in names}
