"""Hosts of a fleet: each is a ledger file and the real processes that share it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cb import BreakerConfig, Ledger, State
from cb.ledger import layout as at
from cb.ledger.layout import state_of
from cb.state.window import in_flight
from cb.testing import Worker, workers
from tests.fleet.inside import begin, is_agent, make, operate
from tests.fleet.servers import until

#: opens by the rate of ten calls, never by a streak; tries again soon
CONFIG = BreakerConfig(
    max_requests=3,
    success_threshold=2,
    interval=10,
    timeout=0.5,
    timeout_jitter=0,
    half_open_max_duration=5,
    minimum_requests=10,
    failure_threshold=None,
    failure_rate_threshold=0.5,
    slow_call_rate_threshold=None,
)
# Forked from a process that has imported everything: sooner than started anew, and with no thread of ours.
multiprocessing.set_forkserver_preload(["tests.fleet.hosts"])


class Host:
    """A ledger, seen from outside, and its workers."""

    def __init__(self, path: Path, processes: list[Worker]) -> None:
        self.path = path
        self.workers = processes
        self._ledger = Ledger.in_file(path)
        self._row = self._ledger.core.record("d", 1)
        self._head = self._row.head

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns in a worker."""
        return self.workers[0].call(fn, *args)

    def hold(self, state: State, **how: Any) -> None:
        self.call(operate, "hold", (state,), {"reason": "test", "author": "alice", **how})

    def reset(self, **how: Any) -> None:
        self.call(operate, "reset", (), {"reason": "test", "author": "alice", **how})

    def configure(self, **how: Any) -> None:
        self.call(operate, "configure", ("alice",), how)

    @property
    def state(self) -> State:
        return state_of(self._head[at.WORD])

    @property
    def fleet_controlled(self) -> bool:
        """Whether the fleet has put the circuit into its state."""
        return bool(self._head[at.FLEET_CONTROLLED])

    @property
    def known(self) -> int:
        """The fleet's state that this host has seen last, with its generation; 0 if it has heard of none."""
        return int(self._head[at.FLEET])

    @property
    def traffic(self) -> int:
        """Calls that the fleet has been told of."""
        return int(self._head[at.REPORTED])

    @property
    def told(self) -> int:
        """Failures that the fleet has been told of."""
        return int(self._head[at.REPORTED + 1])

    @property
    def heard(self) -> int:
        """When the agent had its last exchange."""
        return int(self._ledger.core.header[at.H_LAST_SYNC])

    @property
    def size(self) -> int:
        """How many hosts the fleet has."""
        return int(self._ledger.core.header[at.H_HOSTS])

    @property
    def holds_a_permit(self) -> bool:
        """Whether the circuit is HALF_OPEN and a call runs."""
        return self.state is State.HALF_OPEN and in_flight(self._row.pages()) > 0

    @property
    def agents(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.call(is_agent)]

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()


@contextmanager
def hosts(
    directory: Path,
    urls: Sequence[str | None],
    *,
    processes: int = 1,
    config: BreakerConfig = CONFIG,
    fleet: str = "f",
    names: str = "host",
    joined: bool = True,
) -> Iterator[list[Host]]:
    """Run a host for each URL, with that many workers each. If `joined`, return when the fleet knows them all."""
    with workers(processes * len(urls), "forkserver") as started:
        groups = [started[number * processes : (number + 1) * processes] for number in range(len(urls))]
        paths = [directory / f"{names}-{number}" for number in range(len(urls))]
        for path, url, group in zip(paths, urls, groups, strict=True):
            for worker in group:
                worker.send(make, path, url, fleet, config)
                worker.send(begin)
        together(started, is_agent)
        made = [Host(path, group) for path, group in zip(paths, groups, strict=True)]
        if joined:
            until(lambda: all(host.known for host in made), 10)
        yield made


def together(processes: Sequence[Worker], fn: Callable[..., Any], *args: Any) -> list[Any]:
    """Return what a function returns in each worker, where it runs at the same time."""
    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda worker: worker.call(fn, *args), processes))


def everyone(made: Sequence[Host]) -> list[Worker]:
    return [worker for host in made for worker in host.workers]


def all_in(state: State, made: Sequence[Host], seconds: float = 3) -> None:
    """Wait until the circuit is in a state on all hosts."""
    try:
        until(lambda: all(host.state is state for host in made), seconds)
    except AssertionError:
        raise AssertionError(f"{[str(host.state) for host in made]} and not {state} in {seconds} s") from None
