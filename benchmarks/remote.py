"""Cost of a call whose breaker is shared through Redis: each library's way of doing that, in one run."""

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from .peers import LIBRARIES, OURS, WITH_REDIS, Call, Setting
from .result import Check, Result, with_ratios
from .valkey import server

#: a turn of ours lasts as long as the agent's interval or longer: in a shorter one its thread might not appear at all
ROUNDS, CALLS = 25, 300_000
#: fewer calls of those that take longer
SLOW = {"interlock, Redis": 30, "pybreaker, Redis": 1_000, "purgatory, Redis": 3_000}
FLEET = "cb, Redis"


def remote(rounds: int = ROUNDS) -> Result:
    """Measure the call that succeeds: on the ledger of a host, with a fleet behind that, and of others with Redis."""
    with tempfile.TemporaryDirectory() as directory, server() as (_, url):
        setting = Setting(Path(directory), url)
        calls = {library.name: library.guard(_work, setting) for library in WITH_REDIS if library.name != FLEET}
        costs: dict[str, list[float]] = {name: [] for name in (OURS, FLEET, *calls)}
        for _ in range(rounds):
            costs[OURS].append(_cost(LIBRARIES[OURS].guard(_work, setting), CALLS))
            # This process is its host's agent for a while, and no longer: the others' turns are not to pay for it.
            with ExitStack() as stack:
                with_it = LIBRARIES[FLEET].guard(_work, replace(setting, worker=1))
                stack.callback(with_it.fleet.close)  # type: ignore[attr-defined]  # as the library has made it
                costs[FLEET].append(_cost(with_it, CALLS))
            for name, call in calls.items():
                costs[name].append(_cost(call, CALLS // SLOW[name]))
    medians = {name: statistics.median(values) for name, values in costs.items()}
    # Neighbours in time are compared: what else the machine does troubles both.
    ratio = statistics.median(with_it / alone for with_it, alone in zip(costs[FLEET], costs[OURS], strict=True))
    check = Check(f"{FLEET} / {OURS}", ratio, 1.1)
    title = "A decorated call that succeeds, shared by hosts"
    return Result(title, ("ns", "ours = 1"), with_ratios(medians, FLEET), [check])


def _cost(call: Call, times: int) -> float:
    """Return nanoseconds per call."""
    begin = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - begin) / times


def _work() -> None:
    pass
