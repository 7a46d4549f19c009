"""Circuit breaker libraries behind one interface, each set up in the best way that its documentation shows.

All have the same thresholds: a number of consecutive failures opens, and one successful probe closes. Libraries with
state in Redis use a client with a timeout of 0.2 s and no retry, which is faster to fail than redis-py's defaults.
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
#: Seconds until a client of Redis times out.
REDIS_TIMEOUT_SECONDS = 0.2
#: Name of the breaker, the fleet and the namespace.
NAME = "bench"
OURS, OWN = "cb", "distributed-circuit-breaker"


@dataclass(frozen=True, slots=True)
class Setting:
    """Thresholds of a breaker, and the place of its state."""

    directory: Path
    #: URL of a Redis server, for libraries that need one
    url: str = ""
    #: consecutive failures that open
    failures: int = 10
    #: seconds in OPEN
    timeout: float = 60.0
    #: number of the process, or of its host for a library that shares by host
    worker: int = 0


@dataclass(frozen=True, slots=True)
class Library:
    """A way to guard a function."""

    name: str
    package: str
    #: scope of a breaker: "threads" of a process, "workers" of a host, or "hosts", through Redis
    shared: str
    #: setup in terms of the library's documentation
    setup: str
    #: error of a rejected call
    rejection: type[Exception]
    guard: Callable[[Call, Setting], Call]


def _memory(work: Call, setting: Setting) -> Call:
    return CircuitBreaker(NAME, cb_config(setting))(work)


def _file(work: Call, setting: Setting) -> Call:
    return CircuitBreaker(NAME, cb_config(setting), ledger=Ledger.in_file(setting.directory / "ledger"))(work)


def _fleet(work: Call, setting: Setting) -> Call:
    ledger = Ledger.in_file(setting.directory / f"host-{setting.worker}")
    guarded = CircuitBreaker(NAME, cb_config(setting), ledger=ledger)(work)
    begin = time.monotonic()
    fleet = Fleet(setting.url, ledger, name=NAME)
    fleet.tick()
    # The breaker works at once, but the benchmark measures one that is connected to its fleet.
    while not _synchronized_since(ledger, begin) and time.monotonic() < begin + 2:
        time.sleep(0.01)
    guarded.fleet = fleet  # type: ignore[attr-defined]  # the agent lives as long as the function
    return guarded


def _synchronized_since(ledger: Ledger, begin: float) -> bool:
    now = time.monotonic_ns()
    view = ledger.core.fleet(now)
    return bool(view and view.age is not None and now / 1e9 - view.age > begin)


def cb_config(setting: Setting) -> BreakerConfig:
    """Return the thresholds of a setting."""
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
    # It has only rates: if all calls of the window must fail, they are consecutive failures.
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
    # Not SyncRedisUnitOfWork: in 3.0.1 it uses redis.asyncio without awaiting.
    loop = asyncio.new_event_loop()
    store = purgatory.AsyncRedisUnitOfWork(
        f"{setting.url}?socket_timeout={REDIS_TIMEOUT_SECONDS}&socket_connect_timeout={REDIS_TIMEOUT_SECONDS}"
    )
    factory = purgatory.AsyncCircuitBreakerFactory(setting.failures, setting.timeout, uow=store)
    loop.run_until_complete(factory.initialize())

    @factory(NAME)
    async def guarded() -> object:
        return work()

    return wraps(work)(lambda: loop.run_until_complete(guarded()))


def _pybreaker(work: Call, setting: Setting, storage: pybreaker.CircuitBreakerStorage | None = None) -> Call:
    # The call that opens raises its own error, so that a rejection is a call that was not made, as with the others.
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
        setting.url,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
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
            *("interlock", "interlock-cb", "threads", "a failure rate of 1 over that number of calls"),
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
            *("cb, Redis", OWN, "hosts", "Ledger.in_file and Fleet; in tables of workers, each is a host of its own"),
            *(CircuitOpenError, _fleet),
        ),
        Library(
            *("interlock, Redis", "interlock-cb", "hosts", "RedisStorage, poll_interval=0.1 like ours"),
            *(interlock.CircuitOpenError, _interlock_redis),
        ),
        Library(
            *(
                "purgatory, Redis",
                "purgatory",
                "hosts",
                "AsyncRedisUnitOfWork on an event loop: SyncRedisUnitOfWork does not work",
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
#: Libraries in the tables of several workers.
WORKERS = [library for library in LIBRARIES.values() if library.name != "cb, memory"]
