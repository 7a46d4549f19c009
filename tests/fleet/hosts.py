"""Hosts of a fleet: a ledger file and the real processes that share it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cb import BreakerConfig, Ledger, State
from cb.control import ACTIONS
from cb.ledger import layout as at
from cb.ledger.layout import state_of
from cb.state.window import in_flight
from cb.testing import Worker, workers
from tests.fleet.inside import begin, is_agent, make, operate
from tests.support.waiting import until

#: Opens on the failure rate of ten calls, never on consecutive failures; probes soon.
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
# Forked from a process that has imported everything: faster than a new process, and without threads of the library.
multiprocessing.set_forkserver_preload(["tests.fleet.hosts"])


class Host:
    """A ledger, read from outside, and its workers."""

    def __init__(self, path: Path, processes: list[Worker]) -> None:
        self.path = path
        self.workers = processes
        self._ledger = Ledger.in_file(path)
        self._row = self._ledger.core.record("d", 1)
        self._head = self._row.head

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Return the result of a function in a worker."""
        return self.workers[0].call(fn, *args)

    def hold(self, state: State, **how: Any) -> None:
        self.call(operate, ACTIONS[state].__name__, {"reason": "test", "author": "alice", **how})

    def reset(self, **how: Any) -> None:
        self.call(operate, "reset", {"reason": "test", "author": "alice", **how})

    def configure(self, **how: Any) -> None:
        self.call(operate, "configure", {"author": "alice", **how})

    @property
    def state(self) -> State:
        return state_of(self._head[at.WORD])

    @property
    def fleet_controlled(self) -> bool:
        """True if the fleet has put the circuit into its state."""
        return bool(self._head[at.FLEET_CONTROLLED])

    @property
    def known(self) -> int:
        """The state and generation of the fleet in the last reply; 0 before the first."""
        return int(self._head[at.FLEET])

    @property
    def published(self) -> bool:
        """True if no operator's state waits to be published."""
        return not self._head[at.PUBLISH]

    @property
    def traffic(self) -> int:
        """Number of calls reported to the fleet."""
        return int(self._head[at.REPORTED])

    @property
    def reported_failures(self) -> int:
        """Number of failures reported to the fleet."""
        return int(self._head[at.REPORTED + 1])

    @property
    def last_sync(self) -> int:
        """Time of the last synchronization."""
        return int(self._ledger.core.header[at.H_LAST_SYNC])

    @property
    def size(self) -> int:
        """Number of hosts in the fleet."""
        return int(self._ledger.core.header[at.H_HOSTS])

    @property
    def holds_a_permit(self) -> bool:
        """True if the circuit is HALF_OPEN and a call is running."""
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
    """Run a host with that number of workers for each URL. If `joined`, wait until all have joined the fleet."""
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
            until(lambda: all(host.known for host in made), seconds=10)
        yield made


def together(processes: Sequence[Worker], fn: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a function in all workers at once. Return the results."""
    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda worker: worker.call(fn, *args), processes))


def everyone(made: Sequence[Host]) -> list[Worker]:
    return [worker for host in made for worker in host.workers]


def all_in(state: State, made: Sequence[Host], seconds: float = 3) -> None:
    """Wait until the circuit is in a state on all hosts."""
    try:
        until(lambda: all(host.state is state for host in made), seconds=seconds)
    except AssertionError:
        raise AssertionError(f"{[str(host.state) for host in made]} and not {state} in {seconds} s") from None
