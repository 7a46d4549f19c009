"""Workers of uvicorn, alone and below gunicorn, and its reloader. docs/rules.md, rules 9, 11, 13 and 26."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.app_servers import GUNICORN, AppServer, app_server
from tests.support.waiting import until

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="shared ledgers need POSIX: run on Linux or macOS"),
]
APP = """
import asyncio, json, os

from cb import BreakerConfig, CircuitBreaker, RejectedError

vendor = CircuitBreaker(
    "vendor",
    BreakerConfig(
        failure_threshold=3,
        failure_rate_threshold=None,
        timeout=3,
        slow_call_duration=20,  # a call that is cancelled earlier is no failure
        timeout_jitter=0,
        max_requests=1,
        success_threshold=1,
    ),
    shared=True,
)


hangs = False


@vendor
async def call(path):
    global hangs
    if path == "/fail":
        raise ConnectionError
    hangs = path == "/hang"
    await asyncio.sleep(60 if hangs else 0.01)
    return "done"


async def answer(path):
    if path == "/state":
        seen, totals = vendor.snapshot(), vendor.snapshot().totals
        return [seen.state, totals.failures, totals.neutral, seen.in_flight, vendor.ledger.workers()]
    if path == "/hangs":
        return hangs
    if path == "/threshold":
        return vendor.config.failure_threshold
    try:
        return await call(path)
    except RejectedError:
        return "rejected"
    except ConnectionError:
        return "failed"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": event + ".complete"})
            if event == "lifespan.shutdown":
                return
    body = json.dumps([os.getpid(), await answer(scope["path"])]).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
WORKERS = 4
UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "warning")
BELOW_GUNICORN = (*GUNICORN, str(WORKERS), "--worker-class")
#: place of each value of /state
STATE, FAILURES, NEUTRAL, RUNNING, LIVE = range(5)


@pytest.fixture(
    params=[
        pytest.param((*UVICORN, "--workers", str(WORKERS)), id="uvicorn"),
        pytest.param((*BELOW_GUNICORN, "uvicorn_worker.UvicornWorker"), id="gunicorn", marks=pytest.mark.nightly),
        pytest.param(
            (*BELOW_GUNICORN, "uvicorn_worker.UvicornWorker", "--preload"), id="preload", marks=pytest.mark.nightly
        ),
        pytest.param((*BELOW_GUNICORN, "asgi"), id="gunicorn's own", marks=pytest.mark.nightly),
    ]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AppServer]:
    """Yield each kind of server, with four workers."""
    with app_server(tmp_path, APP, *request.param, "app:app") as server:
        yield server


def test_workers_reject_together_return_together_and_count_the_call_of_a_killed_one(server: AppServer) -> None:
    workers = server.all_answer("/done", "done", WORKERS)
    assert server.value("/state")[LIVE] == WORKERS
    assert [server.value("/fail") for _ in range(5)] == ["failed"] * 3 + ["rejected"] * 2
    assert server.all_answer("/done", "rejected", WORKERS) == workers
    assert server.all_answer("/done", "done", WORKERS) == workers  # the probe of one of them closes the circuit

    with ThreadPoolExecutor(1) as pool:
        server.send(pool, "/hang")
        until(lambda: server.value("/state")[RUNNING] == 1)
        assert server.value("/state")[FAILURES] == 3
        hanging = until(lambda: [answer.pid for answer in server.at_once("/hangs", WORKERS) if answer.value])[0]
        os.kill(hanging, signal.SIGKILL)
    until(lambda: server.value("/state")[FAILURES:] == [4, 0, 0, WORKERS - 1])  # no other call reports it
    assert hanging not in server.all_answer("/done", "done", WORKERS)  # the server has replaced it
    assert server.value("/state")[LIVE] == WORKERS


def edit(directory: Path, failures: int) -> None:
    """Change the app's threshold, as a developer who saves the file."""
    app = APP.replace("failure_threshold=3", f"failure_threshold={failures}")
    # Longer: Python takes the bytecode of a file that had the same length in the same second.
    (directory / "app.py").write_text(f"{app}# edited\n")


def test_reloader_leaves_no_stale_worker_while_a_call_runs(tmp_path: Path) -> None:
    command = (*UVICORN, "--reload", "--reload-delay", "0.1", "--timeout-graceful-shutdown", "1")
    with app_server(tmp_path, APP, *command, "app:app") as server, ThreadPoolExecutor(2) as pool:
        assert server.value("/fail") == "failed"
        server.send(pool, "/hang")
        until(lambda: server.value("/state")[RUNNING] == 1)
        edit(tmp_path, 2)
        until(lambda: server.up() and server.value("/threshold") == 2)
        # The server cancelled the call. The new process has the counts, and nothing of the old one is left.
        assert server.value("/state") == ["CLOSED", 1, 1, 0, 0]
        assert server.value("/done") == "done"
        assert server.value("/state")[LIVE] == 1
        assert [server.value("/fail") for _ in range(3)] == ["failed", "failed", "rejected"]


def test_edit_after_a_process_was_killed_in_a_call_counts_that_as_a_failure(tmp_path: Path) -> None:
    command = (*UVICORN, "--reload", "--reload-delay", "0.1")
    with app_server(tmp_path, APP, *command, "app:app") as server, ThreadPoolExecutor(1) as pool:
        server.send(pool, "/hang")
        until(lambda: server.value("/state")[RUNNING] == 1)
        os.kill(server.ask("/state").pid, signal.SIGKILL)
        edit(tmp_path, 1)  # the reloader starts no other process before
        until(lambda: server.up() and server.value("/state") == ["OPEN", 1, 0, 0, 0])
        assert server.value("/done") == "rejected"
