"""The setting `CIRCUIT_BREAKERS`: the meaning of its keys, and the errors that name them."""

import pickle
import sys
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment

from cb import ConfigError, Ledger, State
from cb.integrations.django import Panel, breakers
from cb.ledger.project import ledger_name
from tests.support import ROOT

from .conftest import force_open

WRONG: list[tuple[Any, str]] = [
    ({"ledgr": "shm://x"}, "CIRCUIT_BREAKERS.ledgr"),
    ({"LEDGER": "shm://x"}, "CIRCUIT_BREAKERS.LEDGER"),
    ({1: 2}, "CIRCUIT_BREAKERS.1"),
    ([], "CIRCUIT_BREAKERS"),
    (None, "CIRCUIT_BREAKERS"),
    ({"ledger": "redis://x"}, "CIRCUIT_BREAKERS.ledger"),
    ({"ledger": 7}, "CIRCUIT_BREAKERS.ledger"),
    ({"defaults": {"timeout": "soon"}}, "CIRCUIT_BREAKERS.defaults.timeout"),
    ({"defaults": {"timeuot": 1}}, "CIRCUIT_BREAKERS.defaults.timeuot"),
    ({"defaults": []}, "CIRCUIT_BREAKERS.defaults"),
    ({"breakers": {"vendor": {"timeout": -1}}}, "CIRCUIT_BREAKERS.breakers.vendor.timeout"),
    ({"breakers": {"vendor": 3}}, "CIRCUIT_BREAKERS.breakers.vendor"),
    ({"token": "short"}, "CIRCUIT_BREAKERS.token"),
    ({"token": 5}, "CIRCUIT_BREAKERS.token"),
    ({"public": "yes"}, "CIRCUIT_BREAKERS.public"),
    ({"name": ""}, "CIRCUIT_BREAKERS.name"),
    ({"listeners": ["no.such.function"]}, "CIRCUIT_BREAKERS.listeners"),
    ({"listeners": [3]}, "CIRCUIT_BREAKERS.listeners"),
    ({"listeners": "cb.errors"}, "CIRCUIT_BREAKERS.listeners"),
    ({"panels": [3]}, "CIRCUIT_BREAKERS.panels"),
]


@pytest.mark.parametrize(("given", "field"), WRONG)
def test_wrong_setting_is_an_error_that_names_the_key_when_the_server_starts(given: Any, field: str) -> None:
    with override_settings(CIRCUIT_BREAKERS=given), pytest.raises(ConfigError) as caught:
        WSGIHandler()
    assert caught.value.field == field


def test_wrong_token_is_not_repeated() -> None:
    with override_settings(CIRCUIT_BREAKERS={"token": "secret"}), pytest.raises(ConfigError) as caught:
        breakers.get("vendor")
    assert "secret" not in str(caught.value)


def test_all_keys_mean_what_those_of_flask_mean() -> None:
    seen: list[str] = []
    given = {
        "ledger": Ledger.in_memory(),
        "defaults": {"failure_threshold": 3},
        "breakers": {"vendor": {"timeout": "7s"}},
        "token": "x" * 16,
        "public": True,
        "name": "shop",
        "listeners": [lambda change: seen.append(change.name)],
        "panels": [Panel("queue", __file__, dict)],  # type: ignore[arg-type]  # never read
    }
    with override_settings(CIRCUIT_BREAKERS=given):
        vendor = breakers.get("vendor")
        assert (vendor.config.timeout, vendor.config.failure_threshold) == (7, 3)
        assert (breakers.state.service, breakers.state.public) == ("shop", True)
        force_open("vendor")
        assert seen == ["vendor"]
        assert "x" * 16 not in repr(breakers.state)


def test_override_settings_replaces_the_breakers_for_its_time() -> None:
    force_open("vendor")
    with override_settings(CIRCUIT_BREAKERS={"ledger": "memory://"}):
        assert breakers.get("vendor").state is State.CLOSED
    assert breakers.get("vendor").state is State.FORCED_OPEN


def test_breakers_of_tests_are_in_memory_whatever_the_ledger_of_the_project(tmp_path: Any) -> None:
    setup_test_environment()
    try:
        with override_settings(CIRCUIT_BREAKERS={"ledger": f"file://{tmp_path}/ledger"}):
            force_open("vendor")
            assert breakers.ledger.scope.value == "process"
    finally:
        teardown_test_environment()
    assert not list(tmp_path.iterdir())


def test_test_command_has_breakers_in_memory_before_it_sets_up_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["manage.py", "test"])
    with override_settings(CIRCUIT_BREAKERS={"ledger": "shm://live"}):
        assert breakers.ledger.scope.value == "process"


def test_ledger_is_that_of_the_project_that_has_the_routes_where_no_module_has_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("CB_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("CB_LEDGER", raising=False)
    with override_settings(CIRCUIT_BREAKERS={}):
        assert ledger_name(str(ROOT)) in breakers.ledger.path


def test_breakers_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(breakers)) is breakers
    assert repr(breakers).startswith("<Breakers")
