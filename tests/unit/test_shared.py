"""`shared=True`: a breaker in the ledger of its project, with no second object."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, ConfigError, Ledger, Registry, State
from cb.ledger import layout as at
from cb.ledger.project import ledger_name
from cb.testing import isolated_ledgers
from tests.support import ROOT
from tests.support.failing import fail

ONE = BreakerConfig(failure_threshold=1)
NAME = ledger_name(str(ROOT))


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("CB_LEDGER", raising=False)
    return tmp_path


def test_shared_breaker_is_in_the_ledger_of_its_project(state: Path) -> None:
    breaker = CircuitBreaker("vendor", shared=True)
    assert breaker.ledger.path == str(state / f"{NAME}.v3.ledger")
    assert breaker.ledger.scope == "host"


def test_shared_breaker_decorates_without_a_second_object() -> None:
    @CircuitBreaker("vendor", ONE, shared=True)
    def fetch() -> None:
        raise OSError

    with pytest.raises(OSError):
        fetch()
    with pytest.raises(CircuitOpenError):
        fetch()


def test_same_name_twice_is_one_circuit() -> None:
    first, second = CircuitBreaker("vendor", ONE, shared=True), CircuitBreaker("vendor", ONE, shared=True)
    fail(first)
    assert second.state is State.OPEN


def test_breakers_of_a_process_have_one_ledger_and_one_shard() -> None:
    def shared(name: str) -> CircuitBreaker:
        breaker = CircuitBreaker(name, shared=True)
        breaker.call(int)
        return breaker

    with ThreadPoolExecutor(8) as pool:
        breakers = list(pool.map(shared, map(str, range(16))))
    assert len({id(each.ledger) for each in breakers}) == 1
    owners = breakers[0].ledger.core.header[at.H_SHARD_OWNERS : at.H_SHARD_OWNERS + at.SHARDS].tolist()
    assert len(owners) - owners.count(0) == 1
    assert Registry(shared=True).ledger is breakers[0].ledger


def test_caller_is_found_through_parts_of_the_standard_library(state: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        breaker = pool.submit(partial(CircuitBreaker, "vendor", shared=True)).result()
    assert Path(breaker.ledger.path).parent == state
    assert next(map(partial(CircuitBreaker, shared=True), ["vendor"])).ledger.path == str(state / f"{NAME}.v3.ledger")


def test_environment_names_another_ledger(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, path in (("shm://mine", f"{state}/mine.v3.ledger"), (f"file://{state}/a.ledger", f"{state}/a.ledger")):
        monkeypatch.setenv("CB_LEDGER", url)
        assert CircuitBreaker("vendor", shared=True).ledger.path == path
    monkeypatch.setenv("CB_LEDGER", "memory://")
    one, two = CircuitBreaker("vendor", ONE, shared=True), CircuitBreaker("vendor", ONE, shared=True)
    fail(one)
    assert (one.ledger.scope, two.state) == ("process", State.OPEN)


@pytest.mark.parametrize("url", ["redis://localhost", "shop", "shm://a/b", "shm://"])
def test_environment_that_names_no_ledger_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CB_LEDGER", url)
    with pytest.raises(ConfigError, match=r"^CB_LEDGER must be memory://, file:///PATH or shm://NAME, got "):
        CircuitBreaker("vendor", shared=True)


@pytest.mark.parametrize("made", [partial(CircuitBreaker, "vendor"), Registry])
def test_ledger_besides_shared_is_refused(made: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"^shared must be False where a ledger is given, got True"):
        made(ledger=Ledger.in_memory(), shared=True)


def test_config_of_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^config must be a BreakerConfig, got "):
        CircuitBreaker("vendor", {"timeout": 3})  # type: ignore[arg-type]  # as from a settings file


def test_ledger_that_was_closed_is_opened_again() -> None:
    breaker = CircuitBreaker("vendor", shared=True)
    breaker.ledger.close()
    again = CircuitBreaker("vendor", shared=True)
    assert again.ledger is not breaker.ledger
    assert again.ledger.scope == "host"


def test_ledger_that_cannot_be_opened_is_one_of_the_process(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    (state / f"{NAME}.v3.ledger").mkdir()
    one, two = CircuitBreaker("vendor", ONE, shared=True), CircuitBreaker("vendor", ONE, shared=True)
    fail(one)
    assert (two.state, one.ledger.degraded is not None) == (State.OPEN, True)
    assert [each.name for each in caplog.records].count("cb.ledger.degradation") == 1


def test_isolated_ledgers_leave_those_of_running_services_alone(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = CircuitBreaker("vendor", ONE, shared=True)
    monkeypatch.setenv("CB_LEDGER", f"file://{state}/service.ledger")
    with isolated_ledgers() as directory:
        fail(tested := CircuitBreaker("vendor", ONE, shared=True))
        assert Path(tested.ledger.path).parent == directory
    assert (running.state, (state / "service.ledger").exists()) == (State.CLOSED, False)
    assert os.environ["CB_LEDGER"] == f"file://{state}/service.ledger"
    assert os.environ["CB_STATE_DIR"] == str(state)
