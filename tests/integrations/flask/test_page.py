"""The live page over HTTP: its files, its security policy, and its data."""

import json
import re
import time
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

import cb.integrations.operations.page
from cb import ConfigError
from cb.integrations.flask import CircuitBreakers, Panel
from tests.support import ROOT
from tests.support.bakery import an_app

pytestmark = [pytest.mark.quiet, pytest.mark.usefixtures("state")]

DATA = "/circuit-breakers/data"
FILES = sorted(
    path
    for path in Path(cb.integrations.operations.page.__file__).parent.iterdir()
    if path.suffix in {".html", ".css", ".js"}
)
SERVED = ["/circuit-breakers/", *(f"/circuit-breakers/{path.name}" for path in FILES)]
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}


@pytest.fixture
def app() -> Flask:
    """Return an app with one breaker, and with a panel that shows nothing."""
    app = an_app(TESTING=True)
    CircuitBreakers(
        app, panels=[Panel("empty", Path(cb.integrations.operations.page.__file__).parent / "page.js", dict)]
    ).registry.get("own-stock")
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def polled(client: FlaskClient) -> dict[str, object]:
    answer = client.get(DATA)
    assert answer.status_code == 200
    assert answer.json is not None
    return answer.json


@pytest.mark.parametrize("path", SERVED)
def test_file_comes_with_a_policy_that_forbids_all_but_our_own_files(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    kind = {".css": "text/css", ".js": "text/javascript"}.get(Path(path).suffix, "text/html")
    assert answer.content_type == f"{kind}; charset=utf-8"


@pytest.mark.parametrize("path", SERVED)
def test_file_that_a_browser_has_is_not_sent_again(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert first.headers["Cache-Control"] == "no-cache"
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("name", ["__init__.py", "nothing.js", "..", "%2e%2e%2fservice.py"])
def test_file_that_is_not_of_the_page_is_not_found(client: FlaskClient, name: str) -> None:
    assert client.get(f"/circuit-breakers/{name}").status_code == 404


def test_every_file_of_the_page_is_packaged_and_short(client: FlaskClient) -> None:
    packaged = (ROOT / "setup.cfg").read_text()
    assert "cb.integrations.operations.page = *.html, *.css, *.js" in packaged
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 250]


def test_page_has_nothing_inline_and_its_scripts_never_read_markup() -> None:
    text = {path.name: path.read_text() for path in FILES}
    assert not re.findall(r"\sstyle=|\son\w+=|<style|javascript:|<script>|https?://(?!www\.w3\.org)", text["page.html"])
    scripts = "".join(content for name, content in text.items() if name.endswith(".js"))
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|srcdoc", scripts)


def test_data_has_the_latest_50_events_oldest_first(app: Flask, client: FlaskClient) -> None:
    breaker = app.extensions["circuit_breakers"].registry.get("own-stock")
    for _ in range(30):
        breaker.control.force_open(reason="busy")
        breaker.control.reset(reason="quiet")
    assert [event["number"] for event in polled(client)["events"]] == list(range(11, 61))


def test_markup_in_names_and_reasons_stays_text(app: Flask, client: FlaskClient) -> None:
    name, reason = "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"
    app.extensions["circuit_breakers"].registry.get(name).control.force_open(reason=reason)
    answer = client.get(DATA)
    assert answer.content_type == "application/json"
    seen = json.loads(answer.data)
    assert name in seen["breakers"]
    assert reason in seen["events"][0]["reason"]
    assert b"onerror" not in client.get("/circuit-breakers/").data


def test_panels_have_their_data_and_a_failing_one_hides_no_other(app: Flask, client: FlaskClient) -> None:
    script = app.extensions["circuit_breakers"].panels[0].script
    added = [Panel("trades", script, lambda: {"pending": 3}), Panel("broken", script, lambda: {}["no"])]
    app.extensions["circuit_breakers"].panels.extend(added)
    seen = polled(client)
    assert (seen["trades"], seen["broken"]) == ({"pending": 3}, {"unavailable": "KeyError"})
    assert "own-stock" in seen["breakers"]


def test_data_reports_if_controls_need_a_token() -> None:
    app = an_app()
    CircuitBreakers(app, token="x" * 32)
    assert polled(app.test_client())["operator"] is False


def test_data_of_ten_breakers_comes_within_ten_milliseconds(app: Flask, client: FlaskClient) -> None:
    registry = app.extensions["circuit_breakers"].registry
    for number in range(9):
        breaker = registry.get(f"b{number}")
        breaker.call(abs, -1)
        for _ in range(12):
            breaker.control.force_open(reason="busy")
            breaker.control.reset(reason="quiet")
    assert len(polled(client)["breakers"]) == 10
    took = []
    for _ in range(30):
        begun = time.perf_counter()
        client.get(DATA)
        took.append(time.perf_counter() - begun)
    assert sorted(took)[len(took) // 2] < 0.010


def test_panel_of_the_documentation_is_served_with_its_data(tmp_path: Path) -> None:
    (script,) = re.findall(
        r'^```js title="queue.js"\n(.*?)^```$', (ROOT / "docs/integrations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "queue.js").write_text(script)
    app = Flask("queue")
    app.testing = True
    CircuitBreakers(app, panels=[Panel("queue", tmp_path / "queue.js", lambda: {"waiting": 3})])
    client = app.test_client()
    assert '<meta name="panels" content="queue">' in client.get("/circuit-breakers/").text
    answer = client.get("/circuit-breakers/queue.js")
    assert (answer.text, answer.mimetype) == (script, "text/javascript")
    assert polled(client)["queue"] == {"waiting": 3}


@pytest.mark.parametrize("name", ["", "Queue", "../queue", "a b", "-a", "x" * 33])
def test_name_of_a_panel_is_also_that_of_a_file(name: str) -> None:
    with pytest.raises(ConfigError, match="name must be"):
        Panel(name, Path("queue.js"), dict)


def test_panel_cannot_replace_a_file_or_a_part_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "own.js").write_text("replaced")
    app = Flask("own")
    app.testing = True
    CircuitBreakers(
        app, panels=[Panel(name, tmp_path / "own.js", lambda: {"replaced": 1}) for name in ("page", "events")]
    )
    client = app.test_client()
    assert "replaced" not in client.get("/circuit-breakers/page.js").text
    assert polled(client)["events"] == []
