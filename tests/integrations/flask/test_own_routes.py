"""Routes of an app that are also, or also match, routes of the extension."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, url_for
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from cb.integrations.flask import CircuitBreakers
from tests.support.bakery import an_app

pytestmark = pytest.mark.usefixtures("state")

P = "/circuit-breakers"
#: adds routes to an app
Setup = Callable[[Flask], object]


def rule(path: str, **options: Any) -> Setup:
    """Return what gives an app a route of its own, whose view answers `mine`."""
    return lambda app: app.add_url_rule(path, "own", lambda **_: "mine", **options)


def of_blueprint(app: Flask) -> None:
    routes = Blueprint("mine", "mine", url_prefix=P)
    routes.before_request(lambda: ("mine: log in", 401))
    routes.add_url_rule("/events", "events", lambda: "not reached")
    app.register_blueprint(routes)


def set_up(first: str, setup: Setup, **options: Any) -> FlaskClient:
    app = an_app(TESTING=True)
    steps: list[Setup] = [setup, lambda app: CircuitBreakers(app, **options)]
    for step in steps if first == "app" else reversed(steps):
        step(app)
    return app.test_client()


@pytest.mark.parametrize("first", ["app", "breakers"])
@pytest.mark.parametrize(
    ("setup", "method", "path", "status"),
    [
        (rule("/dashboard"), "GET", "/dashboard", 200),
        (rule("/api/v1/circuit-breaker/status"), "GET", "/api/v1/circuit-breaker/status", 200),
        (rule(P), "GET", P, 200),
        (rule(f"{P}/"), "GET", f"{P}/", 200),
        (rule(f"{P}/status"), "GET", f"{P}/status", 200),
        (rule(f"{P}/status"), "HEAD", f"{P}/status", 200),
        (rule(f"{P}/status/"), "GET", f"{P}/status", 308),
        (rule(f"{P}/status", strict_slashes=False), "GET", f"{P}/status/", 200),
        (rule(f"{P}/status/", strict_slashes=False), "GET", f"{P}/status", 200),
        (rule(f"{P}/status", redirect_to="/elsewhere"), "GET", f"{P}/status", 308),
        (rule(f"{P}/status", defaults={"page": 1}), "GET", f"{P}/status", 200),
        (rule(f"{P}/<name>.js"), "GET", f"{P}/page.js", 200),
        (rule(f"{P}/vendor/reset", methods=["POST"]), "POST", f"{P}/vendor/reset", 200),
        (rule("/<tenant>/status"), "GET", f"{P}/status", 200),
        (rule("/<path:path>"), "GET", P, 200),
        (rule("/<path:path>"), "GET", f"{P}/", 200),
        (rule("/<path:path>"), "GET", f"{P}/status", 200),
        (rule("/<path:path>", methods=["POST"]), "POST", f"{P}/vendor/force-open", 200),
        (of_blueprint, "GET", f"{P}/events", 401),
    ],
)
def test_route_of_the_app_itself_wins(setup: Setup, method: str, path: str, status: int, first: str) -> None:
    answer = set_up(first, setup).open(path, method=method)
    assert answer.status_code == status
    assert answer.text.startswith("mine") or method == "HEAD" or answer.location not in {None, f"http://localhost{P}/"}


@pytest.mark.parametrize("first", ["app", "breakers"])
@pytest.mark.parametrize(
    ("setup", "options", "path"),
    [
        (rule("/other"), {}, f"{P}/status"),
        (rule(f"{P}/status", methods=["POST"]), {}, f"{P}/status"),
        (rule("/<path:path>", methods=["POST"]), {}, f"{P}/status"),
        (rule("/<path:path>"), {"url_prefix": "/ops"}, "/ops/status"),
        (rule("/<path:path>"), {"url_prefix": P}, f"{P}/status"),
        (rule("/<path:path>"), {"url_prefix": "/ops", "page_url": "/live"}, "/live/data"),
    ],
)
def test_what_the_app_does_not_answer_itself_is_ours(
    setup: Setup, options: dict[str, Any], path: str, first: str
) -> None:
    answer = set_up(first, setup, **options).get(path)
    assert answer.json and answer.json["service"] == "shop"


@pytest.mark.parametrize("first", ["app", "breakers"])
def test_route_below_a_prefix_that_the_app_gave_wins_too(first: str) -> None:
    client = set_up(first, rule("/ops/<path:path>"), url_prefix="/ops")
    assert client.get("/ops/status").text == "mine"


def test_route_that_is_added_after_a_request_wins_from_then_on() -> None:
    client = set_up("breakers", rule("/other"))
    assert client.get(f"{P}/status").json
    client.application.view_functions["late"] = lambda: "mine"  # Flask's own method refuses it by now
    client.application.url_map.add(Rule(f"{P}/status", endpoint="late"))
    assert client.get(f"{P}/status").text == "mine"


def test_route_that_takes_ours_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    client = set_up("app", rule("/<path:path>"))
    for _ in range(3):
        client.get(f"{P}/status")
    (record,) = caplog.records
    assert record.message.startswith(f"{P}/status is answered by this app's own route /<path:path>: url_prefix=")


def test_static_files_at_the_root_win_if_they_exist(tmp_path: Any) -> None:
    (tmp_path / "circuit-breakers").mkdir()
    (tmp_path / "circuit-breakers" / "status").write_text("mine")
    app = Flask("shop", static_folder=str(tmp_path), static_url_path="")
    app.testing = True
    CircuitBreakers(app)
    client = app.test_client()
    with client.get(f"{P}/status") as answer:
        assert answer.text == "mine"
    assert client.get(f"{P}/data").json


@pytest.mark.parametrize("first", ["app", "breakers"])
@pytest.mark.parametrize("routes", [True, False])
def test_metrics_of_the_app_itself_win(first: str, routes: bool) -> None:
    client = set_up(first, rule("/metrics"), metrics=True, routes=routes)
    assert client.get("/metrics").text == "mine"


def test_metrics_that_were_asked_for_go_before_a_route_for_all_paths() -> None:
    assert "# HELP" in set_up("app", rule("/<path:path>"), metrics=True).get("/metrics").text


def test_own_route_on_another_host_does_not_win_here() -> None:
    app = Flask("shop", host_matching=True, static_folder=None)
    app.testing = True
    CircuitBreakers(app, url_prefix="")
    app.add_url_rule("/status", "own", lambda: "mine", host="other.example")
    # Ours have no host: with `host_matching` they match none, as other routes without one.
    assert app.test_client().get("/status", headers={"Host": "other.example"}).text == "mine"


def test_urls_of_the_routes_can_be_built() -> None:
    app = an_app(TESTING=True)
    CircuitBreakers(app)
    with app.test_request_context("/"):
        assert url_for("circuit_breakers.dashboard.page") == f"{P}/"
        assert url_for("circuit_breakers.circuit-breaker.status") == f"{P}/status"
