"""`CircuitBreakers(app)`: responses, configuration and registry of any Flask app."""

import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from cb import BreakerConfig, CircuitBreaker, CircuitOpenError, ConfigError, Event, Ledger, State
from cb.http import CircuitOpenConnectionError
from cb.integrations.flask import CircuitBreakers
from cb.ledger.project import ledger_name
from cb.testing import FakeClock
from tests.support import ROOT
from tests.support.bakery import OPEN, REASON, STATUS, an_app, guarded, trip

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def app() -> Flask:
    return an_app(TESTING=True, CB_DEFAULTS={"failure_threshold": 2, "timeout": "20s", "timeout_jitter": 0})


def test_open_circuit_that_leaves_a_view_is_503_with_retry_after(app: Flask) -> None:
    clock = FakeClock()
    client = guarded(app, CircuitBreakers(app, clock=clock))
    trip(client, 2)
    clock.advance(3)
    answer = client.get("/price")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert answer.headers["Retry-After"] == "17"
    assert answer.json and answer.json["code"] == "circuit-open"


def test_full_bulkhead_that_leaves_a_view_is_429_with_retry_after(app: Flask) -> None:
    answer = guarded(app, CircuitBreakers(app)).get("/crowd")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json and answer.json["code"] == "bulkhead-full"


def test_other_errors_are_answered_as_before(app: Flask) -> None:
    plain = an_app(TESTING=True)
    before, after = guarded(plain, CircuitBreakers(an_app(TESTING=True))), guarded(app, CircuitBreakers(app))
    for path in ("/own", "/nothing"):
        answers = [client.get(path) for client in (before, after)]
        assert answers[0].data == answers[1].data
        assert dict(answers[0].headers) == dict(answers[1].headers)


@pytest.mark.parametrize("first", ["handler", "extension"])
def test_handler_of_the_app_itself_is_left_in_place(app: Flask, first: str) -> None:
    breakers = CircuitBreakers()
    if first == "extension":
        breakers.init_app(app)
    app.register_error_handler(CircuitOpenError, lambda error: (f"later: {error.name}", 200))
    if first == "handler":
        breakers.init_app(app)
    client = guarded(app, breakers)
    trip(client, 2)
    assert client.get("/price").text == "later: vendor"


@pytest.mark.parametrize("name", ["bakery", __name__])
def test_ledger_is_that_of_the_project_of_the_app_and_of_shared_breakers(state: Path, name: str) -> None:
    ledger = CircuitBreakers(an_app(name)).registry.ledger
    assert ledger is CircuitBreaker("vendor", shared=True).ledger
    assert ledger.path == str(state / f"{ledger_name(str(Path.cwd() if name == 'bakery' else ROOT))}.v3.ledger")


def test_app_that_is_tested_shares_no_ledger_with_one_that_runs() -> None:
    assert CircuitBreakers(an_app(TESTING=True)).registry.ledger.path == "memory"


def test_config_goes_before_arguments_and_those_before_defaults() -> None:
    app = an_app(
        CB_LEDGER="memory://",
        CB_DEFAULTS={"timeout": "7s"},
        CB_BREAKERS={"vendor": {"failure_threshold": 4}},
    )
    given = {"vendor": BreakerConfig(timeout=1), "bank": BreakerConfig(timeout=2)}
    breakers = CircuitBreakers(
        app, ledger="shm://other", defaults=BreakerConfig(max_requests=9, timeout=3), overrides=given
    )
    found = {name: breakers.registry.get(name).config for name in ("vendor", "bank", "else")}
    assert breakers.registry.ledger.path == "memory"
    assert found["vendor"] == BreakerConfig(max_requests=9, timeout=7, failure_threshold=4)
    assert found["bank"] == BreakerConfig(timeout=2)
    assert found["else"] == BreakerConfig(max_requests=9, timeout=7)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"CB_LEDGER": "redis://here"}, "CB_LEDGER must be memory://"),
        ({"CB_DEFAULTS": "timeout"}, "CB_DEFAULTS must be a mapping"),
        ({"CB_DEFAULTS": {"timeout": "soon"}}, "CB_DEFAULTS.timeout must be a duration"),
        ({"CB_BREAKERS": {"vendor": {"timout": 1}}}, "CB_BREAKERS.vendor.timout must be one of"),
        ({"CB_BREAKERS": {"vendor": 3}}, "CB_BREAKERS.vendor must be a mapping"),
    ],
)
def test_wrong_setting_is_named_and_nothing_is_changed(config: dict[str, Any], message: str) -> None:
    app = an_app(**config)
    with pytest.raises(ConfigError) as raised:
        CircuitBreakers(app)
    assert str(raised.value).startswith(message)
    assert "circuit_breakers" not in app.extensions


def test_one_extension_gives_each_app_breakers_of_its_own() -> None:
    breakers = CircuitBreakers()
    with pytest.raises(RuntimeError, match="init_app"):
        breakers.registry  # noqa: B018  # it raises
    first, second = an_app("first", TESTING=True), an_app("second", TESTING=True)
    breakers.init_app(first)
    breakers.init_app(second)
    with first.app_context():
        breakers.registry.get("vendor").control.force_open(reason="test")
    with second.app_context():
        assert breakers.registry.get("vendor").state is State.CLOSED
        assert CircuitBreakers(an_app("third", TESTING=True)).registry is not breakers.registry
    assert breakers.registry is second.extensions["circuit_breakers"].registry


def test_repr_names_the_app_and_its_registry() -> None:
    breakers = CircuitBreakers()
    assert repr(breakers) == "<CircuitBreakers of no app>"
    breakers.init_app(an_app("shop", TESTING=True))
    assert repr(breakers) == f"<CircuitBreakers of 'shop', {breakers.registry!r}>"


def test_two_apps_that_name_one_ledger_open_together(state: Path) -> None:
    url = f"file://{state}/common"
    clients = [guarded(app := an_app(name), CircuitBreakers(app, ledger=url)) for name in ("first", "second")]
    clients[0].post(OPEN, json=REASON)
    assert clients[1].get("/price").status_code == 503


def test_listeners_receive_state_changes(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []
    breakers = CircuitBreakers(app, listeners=[heard.append], ledger=Ledger.in_memory())
    trip(guarded(app, breakers), 2)
    assert [type(event).__name__ for event in heard] == ["StateChange"]
    assert "circuit vendor: CLOSED -> OPEN" in caplog.text


def test_session_has_a_breaker_for_each_host(app: Flask) -> None:
    breakers = CircuitBreakers(app, overrides={"http://127.0.0.1:9": BreakerConfig(failure_threshold=1)})
    session = breakers.session(timeout=2)

    @app.get("/ask")
    def ask() -> str:
        return session.get("http://127.0.0.1:9/").text

    with pytest.raises(requests.ConnectionError):
        app.test_client().get("/ask")
    assert app.test_client().get("/ask").status_code == 503


def test_session_uses_the_breakers_of_the_app_that_calls() -> None:
    breakers = CircuitBreakers()
    early = breakers.session("vendor", timeout=1)  # before there is an app, as in a module
    first, second = an_app("first", TESTING=True), an_app("second", TESTING=True)
    breakers.init_app(first)
    of_first = breakers.session("vendor", timeout=1)
    by_host = breakers.session(timeout=1)
    breakers.init_app(second)
    for app, opened in ((first, True), (second, False)):
        with app.app_context():
            if opened:
                for name in ("vendor", "http://127.0.0.1:9"):
                    breakers.registry.get(name).control.force_open(reason="test")
            for session in (early, of_first, by_host):
                expected = CircuitOpenConnectionError if opened else requests.ConnectionError
                with pytest.raises(requests.ConnectionError) as raised:
                    session.get("http://127.0.0.1:9/")
                assert type(raised.value) is expected
    assert first.extensions["circuit_breakers"].registry.get("vendor").snapshot().totals.requests == 0
    with pytest.raises(requests.ConnectionError):
        early.get("http://127.0.0.1:9/")  # outside of an app: the latest one
    assert second.extensions["circuit_breakers"].registry.get("vendor").snapshot().totals.requests == 3


def test_session_without_an_app_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match="call init_app first"):
        CircuitBreakers().session("vendor").get("http://127.0.0.1:9/")


def test_apps_of_one_extension_share_no_circuit_in_tests_that_make_one_each() -> None:
    breakers = CircuitBreakers(defaults=BreakerConfig(failure_threshold=1))
    session = breakers.session("vendor", timeout=1)

    def create_app() -> Flask:
        app = an_app(TESTING=True)
        breakers.init_app(app)
        app.add_url_rule("/ask", "ask", lambda: session.get("http://127.0.0.1:9/").text)
        return app

    for _ in range(3):
        client = create_app().test_client()
        with pytest.raises(requests.ConnectionError):
            client.get("/ask")
        assert client.get("/ask").status_code == 503


def test_session_is_pickled_with_the_registry_of_the_current_app(app: Flask) -> None:
    breakers = CircuitBreakers(app)
    copied = pickle.loads(pickle.dumps(breakers.session("vendor")))
    breakers.registry.get("vendor").control.force_open(reason="test")
    with pytest.raises(CircuitOpenConnectionError):
        copied.get("http://127.0.0.1:9/")


def test_app_that_is_dropped_leaves_no_thread_map_or_file_open(state: Path) -> None:
    def figures() -> tuple[int, int, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().count(f"{state}/")
        return maps, len([*Path("/proc/self/fd").iterdir()]), threading.active_count()

    def serve(number: int) -> None:
        app = an_app(f"app-{number}")
        breakers = CircuitBreakers(app)
        breakers.session("vendor")
        guarded(app, breakers).get(STATUS)

    serve(0)  # starts what the process has once
    before = figures()
    for number in range(1, 6):
        serve(number)
    assert figures() == before


def test_process_becomes_a_worker_with_its_first_request(app: Flask) -> None:
    breakers = CircuitBreakers(app)
    assert breakers.registry.ledger.workers() == 0
    answer = app.test_client().get(STATUS)
    assert answer.json and answer.json["workers"] == 1
