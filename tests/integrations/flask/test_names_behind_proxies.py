"""Control of breakers with any name over HTTP: directly, behind nginx, and below a prefix."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from flask import Flask
from playwright.sync_api import expect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from cb import Ledger, Registry, State
from cb.integrations.flask import CircuitBreakers
from tests.support import ROOT
from tests.support.bakery import REASON, an_app
from tests.support.browser import chromium, needs_chromium, watched
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("state")

API = "/circuit-breakers"
ORIGIN = "https://api.example.com:443"
NAMES = (
    *(ORIGIN, "plain", "a b", "100%", "a/b", "/lead", "trail/", "a//c", "..", "../x", "a/../y", ".", "x?y=z", "x#y"),
    *(
        "x;y",
        "a&b=c",
        "a+b",
        "%2F",
        "%252F",
        "ünï cödé",
        "force-open",
        "reset",
        "events",
        "status",
        "name",
        "\\",
        "__proto__",
    ),
)
PROGRAM = f"""
from flask import Flask
from cb.integrations.flask import CircuitBreakers
app = Flask("named")
breakers = CircuitBreakers(app, ledger="memory://", token="{"t" * 20}")
for name in {NAMES!r}:
    breakers.registry.get(name)
"""
SHOWN = {"Authorization": "Bearer " + "t" * 20}
CONF = """
daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}
http {{
    access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p;
    fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
    server {{
        listen 127.0.0.1:{1};
        location /app/ {{ proxy_pass http://127.0.0.1:{2}/; }}
        location / {{ proxy_pass http://127.0.0.1:{2}; }}
    }}
    server {{ listen 127.0.0.1:{3}; merge_slashes off; location /app/ {{ proxy_pass http://127.0.0.1:{2}/; }} }}
}}
"""


def free(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield where an app with breakers of all these names is reached: directly, and in three ways through nginx."""
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx (apt-get install nginx-light)")
    directory = tmp_path_factory.mktemp("named")
    (directory / "named.py").write_text(PROGRAM)
    front, behind, unmerged = free(3)
    (directory / "nginx.conf").write_text(CONF.format(directory, front, behind, unmerged))
    gunicorn = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", f"127.0.0.1:{behind}", "named:app"]
    nginx = ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    quiet = {"cwd": directory, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(gunicorn, env=environ, **quiet) as app, subprocess.Popen(nginx, **quiet) as proxy:
        try:
            until(lambda: all(map(is_up, (front, behind, unmerged))))
            below = [f"http://127.0.0.1:{front}/app", f"http://127.0.0.1:{unmerged}/app"]
            yield [f"http://127.0.0.1:{behind}", f"http://127.0.0.1:{front}", *below]
        finally:
            proxy.terminate()
            app.terminate()


@pytest.mark.parametrize("name", NAMES)
def test_breaker_of_any_name_is_shown_and_controlled_by_query_through_every_proxy(urls: list[str], name: str) -> None:
    for url in urls:
        for action, state in (("force-open", "FORCED_OPEN"), ("reset", "CLOSED")):
            path = f"{url}{API}/{action}?name={quote(name, safe='')}"
            answer = requests.post(path, json=REASON, headers=SHOWN, timeout=10, allow_redirects=False)
            assert (answer.status_code, answer.json()["name"], answer.json()["to"]) == (200, name, state), url
            seen = requests.get(f"{url}{API}/status", headers=SHOWN, timeout=10).json()
            assert seen["breakers"][name]["state"] == state


@pytest.mark.parametrize("name", [ORIGIN, "plain", "a b", "100%", "a/b", "force-open", "events", "ünï cödé", "%2F"])
def test_name_in_the_path_leads_to_the_breaker_through_every_proxy(urls: list[str], name: str) -> None:
    for url in urls:
        answer = requests.post(f"{url}{API}/{quote(name, safe='')}/reset", json=REASON, headers=SHOWN, timeout=10)
        assert (answer.status_code, answer.json()["name"]) == (200, name), url


@needs_chromium
def test_page_asks_strangers_for_the_token_and_controls_a_breaker_with_slashes_below_a_prefix(urls: list[str]) -> None:
    forgiven = re.compile("Failed to load resource: the server responded with a status of 403")
    with chromium() as browser, watched(browser, forgiven) as page:
        page.goto(f"{urls[2]}{API}/")
        expect(page.get_by_role("dialog")).to_contain_text("The operators' token shows the breakers")
        page.get_by_label("Operators' token").fill("x" * 20)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="not the operators' token")).to_be_visible()
        assert page.get_by_role("article").count() == 0
        page.get_by_label("Operators' token").fill("t" * 20)
        page.keyboard.press("Enter")
        for button, state in (("Force open", "forced-open"), ("Reset", "closed")):
            page.get_by_role("button", name=f"{button}: {ORIGIN}", exact=True).click()
            page.get_by_label("Reason").fill("drill")
            page.keyboard.press("Enter")
            card = page.get_by_role("article", name=ORIGIN, exact=True)
            expect(card.locator(".state")).to_have_text(state, timeout=5000)


def test_name_whose_slashes_were_merged_is_none_where_two_breakers_fit() -> None:
    app = an_app()
    breakers = CircuitBreakers(app, ledger="memory://")
    client = app.test_client()
    breakers.registry.get("http://x:80")
    assert client.post(f"{API}/http:/x:80/reset", json=REASON).status_code == 200
    breakers.registry.get("http:///x:80")
    assert client.post(f"{API}/http:/x:80/force-open", json=REASON).status_code == 404
    assert client.post(f"{API}/http://x:80/force-open", json=REASON).status_code == 200
    assert breakers.registry.get("http://x:80").state is State.FORCED_OPEN
    assert breakers.registry.get("http:///x:80").state is State.CLOSED


@pytest.mark.parametrize("query", ["", "?name=", "?name=nobody", "?name=plain&name=plain", "?name=plain&more=1"])
def test_query_without_a_known_name_changes_nothing(query: str) -> None:
    app = an_app()
    breakers = CircuitBreakers(app, ledger="memory://")
    breaker = breakers.registry.get("plain")
    answer = app.test_client().post(f"{API}/force-open{query}", json=REASON)
    assert answer.status_code in {404, 422}
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("name", [ORIGIN, "/lead", ".."])
def test_breakers_of_an_app_below_a_script_name_can_be_controlled(name: str) -> None:
    app = Flask("mounted")
    breakers = CircuitBreakers(app, ledger="memory://", url_prefix="/ops")
    breakers.registry.get(name)
    client = Client(DispatcherMiddleware(Flask("root"), {"/app": app}))
    here = {"REMOTE_ADDR": "127.0.0.1"}
    path = f"/app/ops/force-open?name={quote(name, safe='')}"
    assert client.post(path, json=REASON, environ_overrides=here).status_code == 200
    assert breakers.registry.get(name).state is State.FORCED_OPEN


@pytest.mark.parametrize("name", NAMES)
def test_command_controls_a_breaker_of_any_name(state: Path, name: str) -> None:
    from cb.cli import main

    breaker = Registry(ledger=Ledger.open("shm://named", directory=state)).get(name)
    assert main(["force-open", "--reason", "drill", name]) == 0
    assert breaker.state is State.FORCED_OPEN
