"""Libraries of circuit breakers, each in the best way that its documentation shows, behind one shape.

All get the same thresholds: so many failures in a row open, and one probe that succeeds closes. What keeps state in
Redis gets a client that waits 0.2 s at the most and does not try again, which is kinder than redis-py's defaults.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import circuitbreaker
import interlock
import purgatory
import pybreaker
import pyresilience
import redis
from interlock.integrations.redis import RedisStorage
from purgatory.domain.model import OpenedState
from redis.backoff import NoBackoff
from redis.retry import Retry

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, Ledger
from cb.fleet import Fleet

Call = Callable[[], object]
#: seconds that a client waits for Redis
PATIENCE = 0.2
#: the name of the breaker, and of what else wants one
NAME = "bench"
OURS, OWN = "cb", "distributed-circuit-breaker"


@dataclass(frozen=True, slots=True)
class Setting:
    """When a breaker opens, for how long, and where it may keep its state."""

    directory: Path
    #: of a Redis server, for those that want one
    url: str = ""
    #: in a row, that open
    failures: int = 10
    #: seconds in OPEN
    timeout: float = 60.0
    #: number of the process: for a library that shares by host, and for hosts, its host
    worker: int = 0


@dataclass(frozen=True, slots=True)
class Library:
    """A way to guard a function."""

    name: str
    package: str
    #: who shares a breaker: "threads" of a process, "workers" of a host, or "hosts", through Redis
    shared: str
    #: how it is set up, for a reader who knows the library
    setup: str
    #: what a refused call raises
    refused: type[Exception]
    guard: Callable[[Call, Setting], Call]


def _memory(work: Call, setting: Setting) -> Call:
    return CircuitBreaker(NAME, _config(setting))(work)


def _file(work: Call, setting: Setting) -> Call:
    return CircuitBreaker(NAME, _config(setting), ledger=Ledger.in_file(setting.directory / "ledger"))(work)


def _fleet(work: Call, setting: Setting) -> Call:
    ledger = Ledger.in_file(setting.directory / f"host-{setting.worker}")
    guarded = CircuitBreaker(NAME, _config(setting), ledger=ledger)(work)
    begin = time.monotonic()
    fleet = Fleet(setting.url, ledger, name=NAME)
    fleet.tick()
    # Heard of it, or without it: a breaker is there at once, but what is measured is one that knows its fleet.
    while not _heard_since(ledger, begin) and time.monotonic() < begin + 2:
        time.sleep(0.01)
    guarded.fleet = fleet  # type: ignore[attr-defined]  # the agent lives as long as the function
    return guarded


def _heard_since(ledger: Ledger, begin: float) -> bool:
    now = time.monotonic_ns()
    sight = ledger.core.fleet(now)
    return bool(sight and sight.age is not None and now / 1e9 - sight.age > begin)


def _config(setting: Setting) -> BreakerConfig:
    return BreakerConfig(
        failure_threshold=setting.failures,
        failure_rate_threshold=None,
        timeout=setting.timeout,
        timeout_jitter=0.0,
        success_threshold=1,
        max_requests=1,
    )


def _circuitbreaker(work: Call, setting: Setting) -> Call:
    return circuitbreaker.circuit(setting.failures, setting.timeout, name=NAME)(work)


def _interlock(work: Call, setting: Setting, storage: RedisStorage | None = None) -> Call:
    # It knows rates only: all of the last calls must have failed, which is as many in a row.
    config = interlock.Config(
        failure_rate_threshold=1.0,
        minimum_number_of_calls=setting.failures,
        window_size=setting.failures,
        wait_duration_in_open=setting.timeout,
        permitted_calls_in_half_open=1,
    )
    return interlock.CircuitBreaker(name=NAME, config=config, storage=storage)(work)


def _interlock_redis(work: Call, setting: Setting) -> Call:
    return _interlock(work, setting, RedisStorage(_client(setting), poll_interval=0.1))


def _purgatory(work: Call, setting: Setting) -> Call:
    return purgatory.SyncCircuitBreakerFactory(setting.failures, setting.timeout)(NAME)(work)


def _purgatory_redis(work: Call, setting: Setting) -> Call:
    # Not its Sync...: in 3.0.1 SyncRedisUnitOfWork uses redis.asyncio, and awaits nothing.
    loop = asyncio.new_event_loop()
    store = purgatory.AsyncRedisUnitOfWork(f"{setting.url}?socket_timeout={PATIENCE}&socket_connect_timeout={PATIENCE}")
    factory = purgatory.AsyncCircuitBreakerFactory(setting.failures, setting.timeout, uow=store)
    loop.run_until_complete(factory.initialize())

    @factory(NAME)
    async def guarded() -> object:
        return work()

    return wraps(work)(lambda: loop.run_until_complete(guarded()))


def _pybreaker(work: Call, setting: Setting, storage: pybreaker.CircuitBreakerStorage | None = None) -> Call:
    # The call that opens raises what it raised: a refusal is then a call that was not made, as with the others.
    breaker = pybreaker.CircuitBreaker(
        setting.failures, setting.timeout, name=NAME, state_storage=storage, throw_new_error_on_trip=False
    )
    return breaker(work)


def _pybreaker_redis(work: Call, setting: Setting) -> Call:
    storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, _client(setting), namespace=NAME)
    return _pybreaker(work, setting, storage)


def _pyresilience(work: Call, setting: Setting) -> Call:
    config = pyresilience.CircuitBreakerConfig(
        failure_threshold=setting.failures, recovery_timeout=setting.timeout, success_threshold=1
    )
    return pyresilience.resilient(circuit_breaker=config)(work)


def _client(setting: Setting) -> redis.Redis:
    return redis.Redis.from_url(
        setting.url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
    )


LIBRARIES = {
    library.name: library
    for library in (
        Library(OURS, OWN, "workers", "Ledger.in_file", CircuitOpenError, _file),
        Library("cb, memory", OWN, "threads", "Ledger.in_memory", CircuitOpenError, _memory),
        Library(
            *("circuitbreaker", "circuitbreaker", "threads", "circuit(...)"),
            *(circuitbreaker.CircuitBreakerError, _circuitbreaker),
        ),
        Library(
            *("interlock", "interlock-cb", "threads", "a rate of 1 over as many calls"),
            *(interlock.CircuitOpenError, _interlock),
        ),
        Library("purgatory", "purgatory", "threads", "SyncCircuitBreakerFactory", OpenedState, _purgatory),
        Library(
            *("pybreaker", "pybreaker", "threads", "throw_new_error_on_trip=False"),
            *(pybreaker.CircuitBreakerError, _pybreaker),
        ),
        Library(
            *("pyresilience", "pyresilience", "threads", "resilient(circuit_breaker=...)"),
            *(pyresilience.CircuitOpenError, _pyresilience),
        ),
        Library(
            *("cb, Redis", OWN, "hosts", "Ledger.in_file and Fleet; in tables of workers each has a host of its own"),
            *(CircuitOpenError, _fleet),
        ),
        Library(
            *("interlock, Redis", "interlock-cb", "hosts", "RedisStorage, poll_interval=0.1 as ours has it"),
            *(interlock.CircuitOpenError, _interlock_redis),
        ),
        Library(
            *(
                "purgatory, Redis",
                "purgatory",
                "hosts",
                "AsyncRedisUnitOfWork on a loop: the one of Sync does not work",
            ),
            *(OpenedState, _purgatory_redis),
        ),
        Library(
            *("pybreaker, Redis", "pybreaker", "hosts", "CircuitRedisStorage with a namespace"),
            *(pybreaker.CircuitBreakerError, _pybreaker_redis),
        ),
    )
}
LOCAL = [library for library in LIBRARIES.values() if library.shared != "hosts"]
WITH_REDIS = [library for library in LIBRARIES.values() if library.shared == "hosts"]
#: those that tables of several workers compare
WORKERS = [library for library in LIBRARIES.values() if library.name != "cb, memory"]
