"""Pickling and copying of breakers, ledgers and sessions."""

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

import cb
from cb import BreakerConfig
from cb.background.leader import Leader
from cb.breaker import admission_of
from cb.fleet import Fleet
from cb.http import CircuitBreakerAdapter, DeadlineAdapter, HTTPClient, guarded_session
from cb.integrations.flask import CircuitBreakers
from cb.resilience import RateLimit, RetryBudget, StaleCache
from cb.resilience.redis_store import RedisStore
from cb.resilience.stores import FileStore, MemoryStore
from tests.support.misbehaving import Server


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def a_failure(error: BaseException) -> bool:
    return isinstance(error, KeyError)


@pytest.mark.parametrize("travel", [pickled, copy.deepcopy, copy.copy])
def test_copy_of_a_breaker_in_its_process_is_the_breaker_itself(travel: Callable[[Any], Any]) -> None:
    registry = cb.Registry()
    breaker = registry.get("vendor", failures=a_failure)
    for thing in (breaker, registry, registry.ledger, cb.Bulkhead(breaker, 2)):
        assert travel(thing) is thing


@pytest.mark.parametrize("travel", [pickled, copy.deepcopy, copy.copy])
def test_copy_of_a_session_calls_through_the_same_breakers(server: Server, travel: Callable[[Any], Any]) -> None:
    registry = cb.Registry()
    mounted = requests.Session()
    mounted.mount("http://", CircuitBreakerAdapter(registry, "vendor", timeout=5, limit=3))
    dead = requests.Session()
    dead.mount("http://", DeadlineAdapter(max_retries=2))
    for session in (guarded_session(registry, "vendor", timeout=5), mounted, dead):
        other = travel(session)
        assert other.get(server.url).json() == {}
        assert other.trust_env is session.trust_env
    client = travel(HTTPClient(server.url, 2, registry.get("vendor")))
    assert client.get_json("/quotes") == {}
    assert registry.get("vendor").snapshot().totals.successes == 3


def in_another_process(things: tuple[Any, ...], url: str) -> tuple[Any, ...]:
    """Call through each of the objects, and return the state that this process reads."""
    breaker, registry, bulkhead, session, client = things
    with pytest.raises(KeyError):
        breaker.call({}.__getitem__, "a failure by its rules")
    breaker.call(int)
    bulkhead.call(int)
    session.get(url)
    client.get_json("/quotes")
    rules = admission_of(registry.get("vendor")).classifier.rules
    again = pickle.loads(pickle.dumps(things))
    same = all(each is other for each, other in zip(again[:3], things[:3], strict=True))
    return registry.ledger.scope, registry.ledger.path, bulkhead.limit, rules["failures"] is a_failure, same


def test_breakers_and_sessions_in_a_spawned_process_share_the_ledger(server: Server, tmp_path: Path) -> None:
    ledger = cb.Ledger.in_file(tmp_path / "l")
    registry = cb.Registry(ledger=ledger, defaults=BreakerConfig(failure_threshold=7), listeners=[lambda _: None])
    breaker = registry.get("vendor", failures=a_failure)
    client = HTTPClient(server.url, 2, breaker)
    things = (breaker, registry, cb.Bulkhead(breaker, 3), guarded_session(registry, "vendor"), client)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        seen = executor.submit(in_another_process, things, server.url).result(timeout=60)
    assert seen == ("host", str(tmp_path / "l"), 3, True, True)
    totals = breaker.snapshot().totals
    assert (totals.successes, totals.failures) == (4, 1)
    assert breaker.config.failure_threshold == 7


def test_ledger_in_memory_is_another_one_in_another_process() -> None:
    registry = cb.Registry()
    registry.get("vendor").call(int)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert executor.submit(count_calls, registry, "vendor").result(timeout=60) == ("process", 1)
    assert registry.get("vendor").snapshot().totals.successes == 1


def count_calls(registry: cb.Registry, name: str) -> tuple[str, int]:
    registry.get(name).call(int)
    return registry.ledger.scope, registry.get(name).snapshot().totals.successes


ROOTED: dict[str, Callable[[], Any]] = {
    "Monitor": cb.Monitor,
    "RateLimit": lambda: RateLimit("5/second", name="k"),
    "RetryBudget": RetryBudget,
    "StaleCache": lambda: StaleCache("quotes", MemoryStore(), max_stale_age=60),
    "MemoryStore": MemoryStore,
    "FileStore": lambda: FileStore("/nowhere/c"),
    "RedisStore": lambda: RedisStore("redis://127.0.0.1:1", "c"),
    "Fleet": lambda: Fleet("redis://127.0.0.1:1", cb.Ledger.in_memory(), name="f"),
    "Leader": lambda: Leader(cb.Ledger.in_memory(), "r", threading.Event.wait),
    "CircuitBreakers": CircuitBreakers,
}


@pytest.mark.parametrize("kind", ROOTED)
def test_process_bound_object_refuses_pickling_and_is_its_own_copy(kind: str) -> None:
    with ExitStack() as stack:
        rooted = ROOTED[kind]()
        if hasattr(rooted, "close"):
            stack.callback(rooted.close)
        with pytest.raises(TypeError, match=f"a {kind} cannot be pickled: create one in each process"):
            pickle.dumps(rooted)
        assert copy.copy(rooted) is rooted
        assert copy.deepcopy([rooted]) == [rooted]


def test_rule_that_cannot_be_pickled_raises() -> None:
    registry = cb.Registry()
    registry.get("vendor", failures=lambda error: True)  # noqa: ARG005 - the interface of a predicate
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(registry)
