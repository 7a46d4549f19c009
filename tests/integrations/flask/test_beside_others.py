"""The extension together with other Flask extensions and the error handlers of an app."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask_restful
import flask_restx
import pytest
import requests
from flask import Blueprint, Flask
from flask.views import MethodView
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf

from cb import Bulkhead, BulkheadFullError, CircuitError, CircuitOpenError, LedgerBusyError
from cb.http import CircuitOpenConnectionError
from cb.integrations.flask import CircuitBreakers, Problem
from cb.resilience import RateLimitedError
from tests.support import ROOT
from tests.support.bakery import OPEN, REASON, an_app
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("state")

KINDS = ("restful", "restx", "restx below a blueprint", "restful below a blueprint", "plain")
REFUSALS = (
    (CircuitOpenError("vendor", 3.2), 503, "4"),
    (CircuitOpenConnectionError("vendor", 3.2, requests.PreparedRequest()), 503, "4"),
    (BulkheadFullError("vendor", 2), 429, "1"),
    (RateLimitedError("vendor", 7), 429, "7"),
    (LedgerBusyError("memory", "locked"), 503, "1"),
    (Problem(409, "sold-out", "there is none left", headers={"Retry-After": "9"}), 409, "9"),
)


def raising(kind: str, app: Flask, error: Exception) -> Any:
    """Give an app a view of an extension at /price, which raises. Return the API that it is of."""

    class Price:
        def get(self) -> Any:
            raise error

    library = {"restful": flask_restful, "restx": flask_restx}.get(kind.partition(" ")[0])
    if library is None:
        app.add_url_rule("/price", view_func=type("V", (Price, MethodView), {}).as_view("price"))
        return None
    if "blueprint" in kind:
        routes = Blueprint("shop", "shop")
        api = library.Api(routes)
        api.add_resource(type("V", (Price, library.Resource), {}), "/price")
        app.register_blueprint(routes)
    else:
        api = library.Api(app)
        api.add_resource(type("V", (Price, library.Resource), {}), "/price")
    return api


@pytest.mark.parametrize("config", [{}, {"TESTING": True}, {"PROPAGATE_EXCEPTIONS": True}], ids=str)
@pytest.mark.parametrize("first", ["api", "breakers"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: type(refusal[0]).__name__)
def test_refusal_that_leaves_a_view_of_an_extension_is_answered_as_everywhere(
    kind: str, first: str, refusal: tuple[Exception, int, str], config: dict[str, Any]
) -> None:
    app, (error, status, wait) = an_app(**config), refusal
    steps: list[Callable[[], Any]] = [
        lambda: raising(kind, app, error),
        lambda: CircuitBreakers(app, ledger="memory://"),
    ]
    for step in steps if first == "api" else reversed(steps):
        step()
    answer = app.test_client().get("/price")
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.headers["Retry-After"] == wait


@pytest.mark.parametrize("kind", KINDS)
def test_rejection_in_a_before_request_hook_is_handled(kind: str) -> None:
    app = an_app()
    breakers = CircuitBreakers(app, ledger="memory://")
    raising(kind, app, RuntimeError())
    breakers.registry.get("login").control.force_open(reason="test")
    app.before_request(breakers.registry.get("login")(lambda: None))
    assert app.test_client().get("/price").status_code == 503


@pytest.mark.parametrize("kind", KINDS)
def test_full_bulkhead_in_a_view_of_an_extension_is_429(kind: str) -> None:
    app = an_app()
    breakers = CircuitBreakers(app, ledger="memory://")
    crowded = Bulkhead(breakers.registry.get("crowded"), limit=1)
    raising(kind, app, BulkheadFullError("crowded", 1))
    with crowded:
        assert app.test_client().get("/price").status_code == 429


@pytest.mark.parametrize("first", ["handler", "breakers"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handled", [CircuitOpenError, CircuitError])
def test_handler_of_the_app_for_our_errors_wins(kind: str, handled: type[Exception], first: str) -> None:
    app = an_app()
    if first == "breakers":
        CircuitBreakers(app, ledger="memory://")
    raising(kind, app, CircuitOpenError("vendor", 3))
    app.register_error_handler(handled, lambda error: (f"mine: {error.name}", 299))
    if first == "handler":
        CircuitBreakers(app, ledger="memory://")
    answer = app.test_client().get("/price")
    assert (answer.status_code, answer.text) == (299, "mine: vendor")


@pytest.mark.parametrize("kind", KINDS)
def test_handler_of_the_app_for_everything_gets_the_rest(kind: str) -> None:
    app = an_app()
    CircuitBreakers(app, ledger="memory://")
    app.register_error_handler(Exception, lambda _: ("broken", 500))
    raising(kind, app, CircuitOpenError("vendor", 3))
    assert app.test_client().get("/price").status_code == 503


def test_handler_of_a_blueprint_wins_as_flask_has_it() -> None:
    app, routes = an_app(), Blueprint("shop", "shop")
    CircuitBreakers(app, ledger="memory://")
    routes.register_error_handler(CircuitOpenError, lambda _: ("of the blueprint", 299))

    @routes.get("/price")
    def price() -> str:
        raise CircuitOpenError("vendor", 3)

    app.register_blueprint(routes)
    assert app.test_client().get("/price").text == "of the blueprint"


@pytest.mark.parametrize("handled", [CircuitOpenError, CircuitError])
def test_handler_of_restx_for_our_errors_wins_and_one_for_everything_does_not(handled: type[Exception]) -> None:
    for kind, status in ((handled, 299), (Exception, 503)):
        app = an_app()
        api = raising("restx", app, CircuitOpenError("vendor", 3))
        CircuitBreakers(app, ledger="memory://")
        api.errorhandler(kind)(lambda _: ({"message": "of the API"}, 299))
        assert app.test_client().get("/price").status_code == status


def test_handler_of_one_api_does_not_handle_errors_of_another() -> None:
    app = an_app()
    CircuitBreakers(app, ledger="memory://")
    raising("restful", app, CircuitOpenError("vendor", 3))
    flask_restx.Api(app, doc=False, prefix="/other").errorhandler(CircuitOpenError)(lambda _: ({}, 299))
    assert app.test_client().get("/price").status_code == 503


def test_errors_of_restful_by_name_win() -> None:
    app = an_app()
    CircuitBreakers(app, ledger="memory://")
    api = raising("restful", app, CircuitOpenError("vendor", 3))
    api.errors["CircuitOpenError"] = {"message": "later", "status": 299}
    answer = app.test_client().get("/price")
    assert (answer.status_code, answer.json) == (299, {"message": "later", "status": 299})


@pytest.mark.parametrize("first", ["api", "breakers"])
@pytest.mark.parametrize("library", [flask_restful, flask_restx], ids=lambda library: library.__name__)
@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (CircuitOpenError("vendor", 3), (299, "vendor", None)),
        (LedgerBusyError("memory", "locked"), (503, "ledger-busy", "1")),
        (KeyError("other"), (500, None, None)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_overridden_handle_error_of_an_api_wins_for_the_errors_that_it_handles(
    library: Any, first: str, error: Exception, answered: tuple[Any, ...]
) -> None:
    class OwnApi(library.Api):  # type: ignore[misc]  # of either library
        def handle_error(self, error: Exception) -> Any:
            if isinstance(error, CircuitOpenError):
                return self.make_response({"code": error.name}, 299)
            return super().handle_error(error)

    class Price(library.Resource):  # type: ignore[misc]  # the same
        def get(self) -> Any:
            raise error

    app = an_app()
    if first == "breakers":
        CircuitBreakers(app, ledger="memory://")
    OwnApi(app).add_resource(Price, "/price")
    if first == "api":
        CircuitBreakers(app, ledger="memory://")
    answer = app.test_client().get("/price")
    assert (answer.status_code, answer.json.get("code"), answer.headers.get("Retry-After")) == answered


@pytest.mark.parametrize("kind", ["restful", "restx"])
def test_other_errors_are_left_to_the_extension(kind: str) -> None:
    plain, guarded = an_app(), an_app()
    CircuitBreakers(guarded, ledger="memory://")
    answers = []
    for app in (plain, guarded):
        raising(kind, app, KeyError("other"))
        answers.append(app.test_client().get("/price"))
    assert answers[0].status_code == answers[1].status_code == 500
    assert answers[0].data == answers[1].data


@pytest.mark.parametrize("first", ["csrf", "breakers"])
def test_operators_pass_the_protection_of_flask_wtf_and_forms_do_not(first: str) -> None:
    app = an_app(SECRET_KEY="secret")
    if first == "csrf":
        CSRFProtect(app)
    breakers = CircuitBreakers(app, ledger="memory://", token="t" * 20)
    if first == "breakers":
        CSRFProtect(app)
    breakers.registry.get("vendor")
    app.post("/buy")(lambda: "bought")
    app.get("/token")(generate_csrf)
    client = app.test_client()
    shown = {"Authorization": "Bearer " + "t" * 20}
    assert client.post("/buy").status_code == 400
    assert client.post(OPEN, json=REASON).status_code == 401
    assert client.post(OPEN, json=REASON, headers=shown).status_code == 200
    assert client.post(OPEN, data=REASON, headers=shown).status_code == 415
    assert client.post("/buy").status_code == 400
    assert client.post("/buy", headers={"X-CSRFToken": client.get("/token").text}).text == "bought"


def test_metrics_are_there_under_the_reloader_of_flask(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom cb.integrations.flask import CircuitBreakers\n"
        "app = Flask('debugged')\nCircuitBreakers(app, ledger='memory://', metrics=True).registry.get('vendor')\n"
    )
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "run", "--debug", "--port", "0"],
            cwd=tmp_path,
            env=environ,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        until(lambda: "Debugger PIN" in log.read_text())
        url = log.read_text().partition("Running on ")[2].split()[0]
        answer = requests.get(f"{url}/metrics", timeout=5)
        assert answer.status_code == 200
        assert 'circuit_breaker_state{name="vendor",state="CLOSED"} 1.0' in answer.text
        assert requests.get(f"{url}/metrics?name[]=circuit_breaker_state", timeout=5).text.count("# HELP") == 1
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
