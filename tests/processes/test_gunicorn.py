"""Hung calls and killed workers under real gunicorn. docs/rules.md, rule 11."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.waiting import until

pytestmark = pytest.mark.quiet


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _until(found: Callable[[], Any], seconds: float) -> Any:
    """Call `found` until it returns something, and return that."""

    def found_once_connected() -> Any:
        with suppress(requests.ConnectionError):
            return found()
        return None

    return until(found_once_connected, seconds=seconds)


class Server:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def state(self) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(f"{self.url}/state", timeout=5).json()
        return answer

    def hang(self) -> threading.Thread:
        """Send a request that calls the hanging dependency."""

        def send() -> None:
            with suppress(requests.RequestException):  # the worker may be killed
                requests.get(self.url, timeout=70)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        return thread


@contextmanager
def _gunicorn(ledger: Path, *options: str, **environment: str) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", f"127.0.0.1:{port}", *options]
    process = subprocess.Popen(
        [*command, "tests.support.hanging_app:create_app()"],
        env={**os.environ, "HANG_LEDGER": str(ledger), **environment},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        server = Server(port)
        _until(server.state, 15)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("preload", [False, True])
def test_two_sync_workers_killed_by_their_timeout_open_the_circuit(tmp_path: Path, preload: bool) -> None:
    options = ["-w", "2", "-k", "sync", "--timeout", "2", *(["--preload"] if preload else [])]
    with _gunicorn(tmp_path / "l", *options) as server:
        requests_ = [server.hang(), server.hang()]
        for request in requests_:
            request.join(20)
        state = _until(lambda: (seen := server.state())["state"] == "OPEN" and seen, 5)
        assert state["failures"] == 2
        begin = time.monotonic()
        assert requests.get(server.url, timeout=5).status_code == 503
        assert time.monotonic() - begin < 1


def test_two_calls_that_hang_in_sync_workers_open_the_circuit_before_a_worker_is_killed(tmp_path: Path) -> None:
    options = ["-w", "3", "-k", "sync", "--timeout", "30"]
    with _gunicorn(tmp_path / "l", *options, HANG_SLOW_OPENS="1") as server:
        server.hang()
        server.hang()
        state = _until(lambda: (seen := server.state())["state"] == "OPEN" and seen, 5)
        assert (state["failures"], state["in_flight"]) == (0, 2)


def test_two_workers_killed_by_sigkill_open_the_circuit_without_a_further_call(tmp_path: Path) -> None:
    with _gunicorn(tmp_path / "l", "-w", "2", "-k", "gthread", "--threads", "4") as server:
        server.hang()
        _until(lambda: server.state()["in_flight"] == 1, 5)
        server.hang()
        _until(lambda: server.state()["in_flight"] == 2, 5)
        for pid in set((tmp_path / "l.callers").read_text().split()):
            os.kill(int(pid), signal.SIGKILL)
        assert _until(lambda: (seen := server.state())["state"] == "OPEN" and seen, 5)["failures"] == 2


def test_threads_that_hang_open_the_circuit_after_the_call_timeout(tmp_path: Path) -> None:
    options = ["-w", "2", "-k", "gthread", "--threads", "4"]
    with _gunicorn(tmp_path / "l", *options, HANG_CALL_TIMEOUT="1") as server:
        begin = time.monotonic()
        server.hang()
        server.hang()
        _until(lambda: server.state()["state"] == "OPEN", 5)
        assert 1 <= time.monotonic() - begin < 3
        for _ in range(20):
            answered = time.monotonic()
            assert requests.get(server.url, timeout=5).status_code == 503
            assert time.monotonic() - answered < 0.5
