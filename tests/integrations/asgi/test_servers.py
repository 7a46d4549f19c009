"""`cb.integrations.asgi` in four workers of real servers: they reject, return and are counted together."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.app_servers import GUNICORN, AppServer, app_server
from tests.support.waiting import until

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="shared ledgers need POSIX: run on Linux or macOS"),
]
P = "/circuit-breakers"
WORKERS = 4
APP = """
import asyncio, json, os

from cb import BreakerConfig
from cb.integrations.asgi import CircuitBreakers

config = BreakerConfig(
    failure_threshold=3,
    failure_rate_threshold=None,
    timeout=1,
    timeout_jitter=0,
    slow_call_duration=20,
    max_requests=1,
    success_threshold=1,
)
hanging = False


async def shop(scope, receive, send):
    global hanging
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": event + ".complete"})
            if event == "lifespan.shutdown":
                return
    path, status = scope["path"], 200
    if path == "/price":
        await vendor.acall(asyncio.sleep, 0.01)
    elif path == "/fail":
        try:
            await vendor.acall(fail)
        except ConnectionError:
            status = 502
    elif path == "/hang":
        hanging = True
        await vendor.acall(asyncio.sleep, 60)
    elif path not in {"/state", "/hanging"}:
        status = 404
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps([os.getpid(), hanging]).encode()})


async def fail():
    raise ConnectionError


breakers = CircuitBreakers(shop, defaults=config, metrics=True)
vendor = breakers.registry.get("vendor")


async def app(scope, receive, send):
    async def signed(message):
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-worker", str(os.getpid()).encode())]
        await send(message)

    await breakers(scope, receive, signed)
"""


@pytest.fixture(
    params=[
        pytest.param(("uvicorn", "--port", "{port}", "--log-level", "warning", "--workers", "4"), id="uvicorn"),
        pytest.param((*GUNICORN, "4", "--worker-class", "uvicorn_worker.UvicornWorker"), id="gunicorn"),
    ]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AppServer]:
    with app_server(tmp_path, APP, *request.param, "app:app") as server:
        yield server


def get(server: AppServer, path: str) -> requests.Response:
    return requests.get(server.url + path, headers={"Connection": "close"}, timeout=20)


def status(server: AppServer) -> Any:
    return get(server, f"{P}/status").json()


def all_answer(server: AppServer, path: str, code: int) -> list[requests.Response]:
    """Send requests until each worker has answered with that status. Return a response of each."""
    found: dict[str, requests.Response] = {}

    def asked() -> bool:
        with ThreadPoolExecutor(WORKERS) as pool:
            for each in pool.map(lambda _: get(server, path), range(2 * WORKERS)):
                if each.status_code == code:
                    found[each.headers["X-Worker"]] = each
        return len(found) >= WORKERS

    until(asked, f"{code} from all workers at {path}")
    return [*found.values()]


def test_workers_refuse_together_return_together_obey_one_operator_and_count_a_killed_one(server: AppServer) -> None:
    all_answer(server, "/price", 200)
    assert status(server)["workers"] == WORKERS
    assert [get(server, "/fail").status_code for _ in range(4)] == [502, 502, 502, 503]
    for refused in all_answer(server, "/price", 503):
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("circuit-open", "1")
    all_answer(server, "/price", 200)  # the probe of one of them closes the circuit

    for each in all_answer(server, f"{P}/status", 200):
        assert each.json()["breakers"]["vendor"]["totals"]["failures"] == 3
    for each in all_answer(server, "/metrics", 200):
        assert 'circuit_breaker_failures_total{name="vendor"} 3.0' in each.text
    held = requests.post(f"{server.url}{P}/vendor/force-open", json={"reason": "the vendor migrates"}, timeout=20)
    assert held.status_code == 200
    all_answer(server, "/price", 503)
    assert requests.post(f"{server.url}{P}/vendor/reset", json={"reason": "done"}, timeout=20).status_code == 200
    all_answer(server, "/price", 200)

    with ThreadPoolExecutor(1) as pool:
        server.send(pool, "/hang")
        hanging = until(lambda: [each.pid for each in server.at_once("/hanging", WORKERS) if each.value])[0]
        until(lambda: status(server)["breakers"]["vendor"]["in_flight"] == 1)
        os.kill(hanging, signal.SIGKILL)

    def counted() -> bool:
        vendor = status(server)["breakers"]["vendor"]
        return (vendor["totals"]["failures"], vendor["last_failure"]["type"]) == (4, "worker_ended")

    until(counted)
    until(lambda: status(server)["workers"] == WORKERS)  # the server has replaced it
    assert "not shared" not in server.log()
