"""Cost of a call whose breaker is shared through Redis, for each library, in one run."""

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from .peers import LIBRARIES, OURS, WITH_REDIS, Call, Setting
from .result import Check, Result, with_ratios
from .valkey import server

#: A turn lasts at least the interval of the agent: in a shorter one, its thread might not run at all.
ROUNDS, CALLS = 25, 300_000
#: Divisors of the number of calls, for slower libraries.
SLOW = {"interlock, Redis": 30, "pybreaker, Redis": 1_000, "purgatory, Redis": 3_000}
FLEET = "cb, Redis"


def remote(rounds: int = ROUNDS) -> Result:
    """Measure a successful call: on the ledger of a host, with a fleet, and with other libraries on Redis."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url)
        calls = {library.name: library.guard(_work, setting) for library in WITH_REDIS if library.name != FLEET}
        costs: dict[str, list[float]] = {name: [] for name in (OURS, FLEET, *calls)}
        for _ in range(rounds):
            costs[OURS].append(_cost(LIBRARIES[OURS].guard(_work, setting), CALLS))
            # This process is its host's agent in this turn only, so that the agent does not slow down other turns.
            with ExitStack() as stack:
                with_fleet = LIBRARIES[FLEET].guard(_work, replace(setting, worker=1))
                stack.callback(with_fleet.fleet.close)  # type: ignore[attr-defined]  # set by `_fleet` in peers.py
                costs[FLEET].append(_cost(with_fleet, CALLS))
            for name, call in calls.items():
                costs[name].append(_cost(call, CALLS // SLOW[name]))
    medians = {name: statistics.median(values) for name, values in costs.items()}
    # Neighbours in time are compared: other programs disturb both alike.
    ratio = statistics.median(with_fleet / alone for with_fleet, alone in zip(costs[FLEET], costs[OURS], strict=True))
    check = Check(f"{FLEET} / {OURS}", ratio, 1.1)
    title = "A successful decorated call, shared by hosts"
    return Result(title, ("ns", "ours = 1"), with_ratios(medians, FLEET), [check])


def _cost(call: Call, times: int) -> float:
    """Return the nanoseconds per call."""
    begin = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - begin) / times


def _work() -> None:
    pass
