"""`CircuitBreakers(app)` around plain ASGI apps: responses to rejections, routes, lifespan."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cb import BreakerConfig, ConfigError, Ledger, State
from cb.integrations.asgi import CircuitBreakers, Panel
from tests.support import ROOT
from tests.support.asgi import Client
from tests.support.asgi_shop import ERRORS, OPEN, REASON, STATUS, Shop, state_of

pytestmark = pytest.mark.usefixtures("state")

Clients = Callable[..., Client]
TOKEN = "t" * 32
P = "/circuit-breakers"


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/open", (503, "circuit-open", "5")),
        ("/held", (503, "circuit-open", "60")),
        ("/full", (429, "bulkhead-full", "1")),
        ("/rate", (429, "rate-limited", "1")),
        ("/busy", (503, "ledger-busy", "1")),
        ("/other", (503, "rejected", "7")),
        ("/group", (503, "circuit-open", "9")),
    ],
)
def test_rejection_that_leaves_the_app_is_answered_with_a_wait(
    shop: Shop, client_of: Clients, path: str, refusal: tuple[int, str, str]
) -> None:
    answer = client_of(CircuitBreakers(shop)).get(path, {"X-Request-ID": "mine"})
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == refusal
    assert answer.json["request_id"] == "mine"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("path", ["/bug", "/mixed"])
def test_any_other_error_leaves_the_middleware_too(shop: Shop, client_of: Clients, path: str) -> None:
    with pytest.raises(type(ERRORS[path])) as caught:
        client_of(CircuitBreakers(shop)).get(path)
    assert caught.value is ERRORS[path]


def test_rejection_after_the_response_has_begun_is_raised(shop: Shop, client_of: Clients) -> None:
    shop.begins = True
    with pytest.raises(type(ERRORS["/open"])):
        client_of(CircuitBreakers(shop)).get("/open")


def test_head_has_the_headers_and_no_body(shop: Shop, client_of: Clients) -> None:
    client = client_of(CircuitBreakers(shop))
    for path in ("/open", STATUS, f"{P}/", f"{P}/page.css"):
        answer = client.send("HEAD", path)
        assert answer.status == client.get(path).status
        assert (answer.body, int(answer.headers["content-length"]) > 100) == (b"", True)


@pytest.mark.parametrize("extended", [True, False])
def test_rejected_websocket_is_refused_as_a_request_or_closed_with_1013(
    shop: Shop, client_of: Clients, extended: bool
) -> None:
    client = client_of(CircuitBreakers(shop))
    sent = client.connect("/open", extensions={"websocket.http.response": {}} if extended else {})
    if extended:
        assert [each["type"] for each in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
        assert (sent[0]["status"], json.loads(sent[1]["body"])["retry_after_seconds"]) == (503, 5)
    else:
        assert sent == [{"type": "websocket.close", "code": 1013, "reason": "circuit-open"}]


def test_accepted_websocket_whose_call_is_rejected_is_closed_with_1013(shop: Shop, client_of: Clients) -> None:
    shop.begins = True
    sent = client_of(CircuitBreakers(shop)).connect("/open", extensions={"websocket.http.response": {}})
    assert [each["type"] for each in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == 1013


def test_routes_show_and_control_the_breakers(shop: Shop, client_of: Clients) -> None:
    breakers = CircuitBreakers(shop, name="shop")
    breakers.registry.get("https://api.example.com")
    client = client_of(breakers)
    breakers.registry.get("vendor")
    for path in (f"{P}/vendor/force-open", f"{P}/disable?name=vendor", f"{P}/https:/api.example.com/metrics-only"):
        assert client.post(path, REASON, {"X-Operator": "ann"}).status == 200, path
    status = client.get(STATUS)
    assert status.json["service"] == "shop" and status.json["scope"] == "host"
    states = {name: each["state"] for name, each in status.json["breakers"].items()}
    assert states == {"vendor": "DISABLED", "https://api.example.com": "METRICS_ONLY"}
    events = client.get(f"{P}/events?limit=2").json["events"]
    assert [each["to"] for each in events] == ["DISABLED", "METRICS_ONLY"]
    assert "by ann, request" in events[0]["reason"]
    data = client.get(f"{P}/data")
    assert data.json["operator"] is True and data.headers["cache-control"] == "no-store"
    page = client.get(f"{P}/")
    assert 'src="./page.js"' in page.text and page.headers["content-security-policy"].startswith("default-src 'none'")
    for name in ("page.js", "page.css", "cards.js", "page.html"):
        assert client.get(f"{P}/{name}").status == 200


def test_prefix_without_its_slash_leads_to_the_page(shop: Shop, client_of: Clients) -> None:
    answer = client_of(CircuitBreakers(shop)).get(P)
    assert (answer.status, answer.headers["location"]) == (308, "circuit-breakers/")


def test_file_that_a_browser_has_is_not_sent_again(shop: Shop, client_of: Clients) -> None:
    client = client_of(CircuitBreakers(shop))
    tag = client.get(f"{P}/page.js").headers["etag"]
    for sent, status in ((tag, 304), (f'"a", W/{tag}', 304), ("*", 304), ('"a"', 200)):
        answer = client.get(f"{P}/page.js", {"If-None-Match": sent})
        assert (answer.status, bool(answer.body)) == (status, status == 200)


@pytest.mark.parametrize(
    ("body", "headers", "refusal"),
    [
        (b'{"reason": "x"}', {}, (415, "unsupported-media-type")),
        (b"{", {"Content-Type": "application/json; charset=utf-8"}, (400, "malformed-json")),
        (b'{"reason": "x"}', {"Content-Type": "application/json", "Content-Length": "99"}, (400, "malformed-body")),
        (b"{}", {"Content-Type": "application/json"}, (422, "invalid-body")),
        (b" " * 70_000, {"Content-Type": "application/json"}, (413, "request-entity-too-large")),
        (b"", {"Content-Type": "application/json", "Content-Length": "70000"}, (413, "request-entity-too-large")),
    ],
)
def test_bad_command_is_refused_and_changes_nothing(
    shop: Shop, client_of: Clients, body: bytes, headers: dict[str, str], refusal: tuple[int, str]
) -> None:
    breakers = CircuitBreakers(shop)
    breakers.registry.get("vendor")
    answer = client_of(breakers).send("POST", OPEN, headers, body=body)
    assert (answer.status, answer.json["code"]) == refusal
    assert state_of(breakers) is State.CLOSED


def test_unknown_breaker_method_and_parameter_are_refused(shop: Shop, client_of: Clients) -> None:
    client = client_of(CircuitBreakers(shop))
    assert client.post(f"{P}/nobody/reset", REASON).json["code"] == "unknown-breaker"
    assert client.post(f"{P}/reset", REASON).json["code"] == "invalid-parameter"
    assert client.get(f"{P}/events?since=-1").json["code"] == "invalid-parameter"
    assert client.get(f"{P}/events?limit=1&limit=2").json["code"] == "invalid-parameter"
    refused = client.get(OPEN)
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert client.get(f"{P}/nothing").text == client.get("/nothing").text == "nothing"


def test_client_that_leaves_before_its_command_has_arrived_gets_no_answer(shop: Shop) -> None:
    class Leaver(Client):
        async def _run(self, scope: dict[str, Any], received: list[dict[str, Any]]) -> list[dict[str, Any]]:
            sent = await super()._run(scope, received[:1])
            return sent or [{"type": "http.response.start", "status": 0, "headers": []}]

    client = Leaver(CircuitBreakers(shop))
    assert client.post(OPEN, REASON).status == 0
    client.close()


STRANGERS: list[tuple[str | None, dict[str, str], dict[str, str]]] = [
    ("192.0.2.1", {}, {}),
    ("2001:db8::1", {}, {}),
    (None, {}, {}),
    ("testclient", {}, {}),
    ("127.0.0.1", {"Host": "shop.example"}, {}),
    ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, {}),
    ("127.0.0.1", {"Via": "1.1 proxy"}, {}),
    ("127.0.0.1", {"Origin": "https://evil.example"}, {}),
    ("127.0.0.1", {}, {"http_version": "1.0"}),
]


@pytest.mark.parametrize(("address", "headers", "scope"), STRANGERS)
def test_strangers_see_and_control_nothing_without_the_token(
    shop: Shop, client_of: Clients, address: str | None, headers: dict[str, str], scope: dict[str, str]
) -> None:
    breakers = CircuitBreakers(shop)
    breakers.registry.get("vendor")
    client = client_of(breakers, address)
    for path in (STATUS, f"{P}/", f"{P}/data", f"{P}/events", f"{P}/page.js"):
        answer = client.get(path, headers, **scope)
        assert (answer.status, answer.json["code"], "vendor" in answer.text) == (403, "not-public", False)
    refused = client.post(OPEN, REASON, headers, **scope)
    assert (refused.status, refused.headers["www-authenticate"], state_of(breakers)) == (401, "Bearer", State.CLOSED)


def test_operators_token_opens_everything_to_strangers_and_the_page_asks_for_it(
    shop: Shop, client_of: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CB_ADMIN_TOKEN", TOKEN)
    breakers = CircuitBreakers(shop)
    breakers.registry.get("vendor")
    client, sent = client_of(breakers, "192.0.2.1"), {"Authorization": f"Bearer {TOKEN}"}
    page = client.get(f"{P}/", {"Accept": "text/html"})
    assert (page.status, client.get(f"{P}/page.js").status, client.get(STATUS).status) == (403, 200, 403)
    assert "<!doctype html>" in page.text and "vendor" not in page.text
    assert client.post(OPEN, REASON, {"Authorization": f"Bearer {TOKEN}x"}).status == 401
    assert client.post(OPEN, REASON, {"Authorization": f"Basic {TOKEN}"}).status == 401
    assert client.get(f"{P}/data", sent).json["operator"] is True
    assert client.post(OPEN, REASON, sent).status == 200
    assert state_of(breakers) is State.FORCED_OPEN
    assert client_of(breakers).post(OPEN, REASON).status == 401  # this host needs it too, once there is one


def test_public_shows_everything_and_gives_nobody_control(shop: Shop, client_of: Clients) -> None:
    client = client_of(CircuitBreakers(shop, public=True), "192.0.2.1")
    assert client.get(f"{P}/data").json["operator"] is False
    assert client.post(OPEN, REASON).status == 401


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("status", [404, 405])
def test_routes_of_the_app_go_before_those_of_the_default_prefix(
    shop: Shop, client_of: Clients, read: bool, status: int
) -> None:
    shop.own, shop.reads_bodies, shop.status_of_others = {STATUS}, read, status
    breakers = CircuitBreakers(shop)
    breakers.registry.get("vendor")
    client = client_of(breakers)
    assert client.get(STATUS).text == "mine"
    assert client.get(f"{P}/data").json["service"]
    assert client.post(OPEN, REASON).status == 200  # also if the app has read the body
    assert client.post(OPEN, {"reason": "x" * 70_000}).status == 413
    assert state_of(breakers) is State.FORCED_OPEN


def test_route_of_the_app_in_place_of_ours_is_logged_once(
    shop: Shop, client_of: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    shop.own = {f"{P}/", STATUS, "/mine"}
    client = client_of(CircuitBreakers(shop))
    for path in ("/mine", f"{P}/data", f"{P}/", STATUS):
        client.get(path)
    [line] = [each.getMessage() for each in caplog.records if each.name == "cb.integrations.asgi.middleware"]
    assert line.startswith(f"{P}/ is answered by this app's own route: url_prefix=")


def test_routes_below_a_given_prefix_go_before_those_of_the_app(shop: Shop, client_of: Clients) -> None:
    shop.own = {"/ops/status", STATUS}
    client = client_of(CircuitBreakers(shop, url_prefix="/ops/"))
    assert client.get("/ops/status").json["breakers"] == {}
    assert client.get(STATUS).text == "mine"
    assert client.get("/opsx/status").text == "nothing"


@pytest.mark.parametrize("root", ["/shop", "/shop/"])
@pytest.mark.parametrize("complete", [True, False])
def test_routes_are_found_below_the_path_of_a_proxy(shop: Shop, client_of: Clients, root: str, complete: bool) -> None:
    client = client_of(CircuitBreakers(shop))
    path = f"/shop{STATUS}" if complete else STATUS
    assert client.get(path, root_path=root).json["breakers"] == {}


def test_without_routes_they_can_be_mounted_elsewhere(shop: Shop, client_of: Clients) -> None:
    breakers = CircuitBreakers(shop, routes=False)
    assert client_of(breakers).get(STATUS).text == "nothing"
    mounted = client_of(breakers.operations)
    assert mounted.get("/ops/status", root_path="/ops").json["breakers"] == {}
    assert mounted.get("/ops", root_path="/ops").headers["location"] == "ops/"
    assert mounted.get("/ops/x", root_path="/ops").json["code"] == "not-found"
    assert mounted.connect("/ops/status", root_path="/ops")[0]["type"] == "websocket.close"


def test_panel_of_the_app_is_on_the_page(shop: Shop, client_of: Clients, tmp_path: Path) -> None:
    script = tmp_path / "orders.js"
    script.write_text("export const title = 'Orders';")
    client = client_of(CircuitBreakers(shop, panels=[Panel("orders", script, lambda: {"open": 3})]))
    assert 'content="orders"' in client.get(f"{P}/").text
    assert client.get(f"{P}/data").json["orders"] == {"open": 3}
    assert client.get(f"{P}/orders.js").headers["content-type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "text/plain; version=9"])
def test_metrics_of_all_breakers_are_shown_to_everyone_in_the_accepted_format(
    shop: Shop, client_of: Clients, accept: str
) -> None:
    breakers = CircuitBreakers(shop, metrics=True, routes=False)
    breakers.registry.get("vendor").call(int)
    answer = client_of(breakers, "192.0.2.1").get("/metrics", {"Accept": accept})
    assert 'circuit_breaker_requests_total{name="vendor",outcome="success"} 1.0' in answer.text
    assert answer.text.endswith("# EOF\n") is ("openmetrics" in accept)
    shop.own = {"/metrics"}
    assert client_of(breakers).get("/metrics").text == "mine"
    assert client_of(CircuitBreakers(shop)).get("/metrics").text == "mine"


def test_worker_joins_the_ledger_when_it_starts_and_closes_it_when_it_ends(shop: Shop, client_of: Clients) -> None:
    breakers = CircuitBreakers(shop)
    other = Ledger.view(breakers.registry.ledger.path)
    assert other.workers() == 0
    with client_of(breakers).lifespan() as sent:
        assert other.workers() == 1
    assert other.workers() == 0
    assert [each["type"] for each in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with client_of(breakers).lifespan():  # a second start in this process
        breakers.registry.get("vendor").call(int)
        assert client_of(breakers).get(STATUS).json["breakers"]["vendor"]["totals"]["requests"] == 1


def test_worker_without_a_lifespan_joins_with_its_first_request(shop: Shop, client_of: Clients) -> None:
    breakers = CircuitBreakers(shop)
    other = Ledger.view(breakers.registry.ledger.path)
    client_of(breakers).get("/nothing")
    assert other.workers() == 1


def test_ledger_of_the_caller_stays_open(shop: Shop, client_of: Clients, tmp_path: Path) -> None:
    ledger = Ledger.in_file(tmp_path / "own.ledger")
    with client_of(CircuitBreakers(shop, ledger=ledger)).lifespan():
        pass
    assert ledger.workers() == 1


def test_views_run_beside_the_event_loop(shop: Shop, client_of: Clients, tmp_path: Path) -> None:
    threads: list[threading.Thread] = []

    def data() -> dict[str, Any]:
        threads.append(threading.current_thread())
        return {}

    client_of(CircuitBreakers(shop, panels=[Panel("orders", tmp_path / "x.js", data)])).get(f"{P}/data")
    assert threads and threads[0] is not threading.current_thread()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"url_prefix": "ops"}, "url_prefix"),
        ({"url_prefix": 7}, "url_prefix"),
        ({"token": "short"}, "token"),
        ({"public": 1}, "public"),
        ({"ledger": "redis://x"}, "ledger"),
        ({"app": "no app"}, "app"),
    ],
)
def test_invalid_setting_is_a_config_error(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CircuitBreakers(**options)
    assert caught.value.field == field


def test_extension_without_an_app_says_what_is_missing(client_of: Clients) -> None:
    with pytest.raises(RuntimeError, match="init_app"):
        client_of(CircuitBreakers()).get("/")


def test_thresholds_and_listeners_reach_the_breakers(shop: Shop) -> None:
    heard: list[object] = []
    breakers = CircuitBreakers(
        shop,
        defaults=BreakerConfig(timeout=3),
        overrides={"vendor": BreakerConfig(timeout=4)},
        listeners=[heard.append],
    )
    assert [breakers.registry.get(name).config.timeout for name in ("other", "vendor")] == [3, 4]
    breakers.registry.get("vendor").control.force_open(reason="a drill", author="test")
    assert len(heard) == 1


ALONE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from cb.integrations.asgi import CircuitBreakers

async def app(scope, receive, send):
    raise LookupError

breakers = CircuitBreakers(app, ledger="memory://")
sent = []

async def main():
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "GET", "path": "/circuit-breakers/status", "headers": [], "client": None}
    scope |= {"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "http_version": "1.1"}
    await CircuitBreakers(app, ledger="memory://", url_prefix="/circuit-breakers")(scope, None, send)

asyncio.run(main())
print(sent[0]["status"])
"""


def test_extension_needs_no_installed_package() -> None:
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(ROOT)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (ran.stdout.strip(), ran.stderr) == ("200", "")
