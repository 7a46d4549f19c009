"""Workers of uWSGI, which forks without Python's hooks, share a ledger. docs/rules.md, rules 3, 13 and 24."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

UWSGI = Path(sys.executable).with_name("uwsgi")
pytestmark = [pytest.mark.quiet, pytest.mark.skipif(not UWSGI.exists(), reason="needs uWSGI: pip install pyuwsgi")]

APP = """
import json, os, threading, time
from urllib.parse import parse_qs
{before}
from cb import BreakerConfig, Bulkhead, BulkheadFullError, CircuitBreaker, CircuitOpenError, Ledger
from cb.resilience.rate_limit_file import FileStorage
from cb.background.watchdog import WATCHDOG
{after}

ONE = BreakerConfig(failure_threshold=1, timeout=0.02, timeout_jitter=0, max_requests=1, success_threshold=1)
ledger = Ledger.open("file://" + os.environ["LEDGER"])
vendor = CircuitBreaker("vendor", BreakerConfig(failure_threshold=3, failure_rate_threshold=None), ledger=ledger)
sick = CircuitBreaker("sick", ONE, ledger=ledger)
bulkhead = Bulkhead(vendor, 1)
vendor.call(int)  # before the fork, except with lazy apps
rates = FileStorage("file://" + os.environ["LEDGER"] + ".rates")
rates.incr("calls", 600)
watched = WATCHDOG.running


def fail():
    raise ConnectionError


def probe():
    time.sleep(0.004)
    fail()


def probes(seconds):
    end, seen = time.monotonic() + seconds, []
    while time.monotonic() < end:
        try:
            with sick.guard() as call:
                if call.probe:
                    seen.append(call._counters.word >> 16)
                probe()
        except (ConnectionError, CircuitOpenError):
            time.sleep(0.0003)
    return seen


def answer(path):
    try:
        match path:
            case "/call":
                vendor.call(int)
            case "/rate":
                return rates.incr("calls", 600)
            case "/fail":
                vendor.call(fail)
            case "/hang":
                vendor.call(time.sleep, 60)
            case "/bulkhead":
                bulkhead.call(time.sleep, 0.5)
            case "/probes":
                return probes(0.8)
            case "/watched":
                alive = [thread.name for thread in threading.enumerate() if thread.is_alive()]
                return alive.count("cb-watchdog")
            case "/snapshot":
                snapshot = vendor.snapshot()
                return [snapshot.totals.requests, snapshot.totals.failures, snapshot.in_flight, ledger.workers()]
    except (ConnectionError, CircuitOpenError, BulkheadFullError) as error:
        return type(error).__name__
    return "done"


def application(environ, start_response):
    result = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), result]).encode()]
"""


@contextmanager
def serving(
    directory: Path, *options: str, before: str = "", after: str = ""
) -> Iterator[Callable[[str], list[object]]]:
    """Run two workers. Yield a function that sends a request, and returns the process id and the response."""
    (directory / "app.py").write_text(APP.replace("{before}", before).replace("{after}", after))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(UWSGI),
        "--http-socket",
        f"127.0.0.1:{port}",
        "--master",
        "--processes",
        "2",
        "--wsgi-file",
        "app.py",
    ]
    command += ["--need-app", "--die-on-term", "--disable-logging", "--pythonpath", str(Path.cwd()), *options]
    environ = {**os.environ, "LEDGER": str(directory / "u.v3.ledger")}
    with (directory / "log").open("w") as log:
        master = subprocess.Popen(command, cwd=directory, env=environ, stdout=log, stderr=log)

    def ask(path: str) -> list[object]:
        found: list[object] = requests.get(f"http://127.0.0.1:{port}{path}", timeout=70).json()
        return found

    try:
        wait_for(lambda: ask("/snapshot"))
        yield ask
    finally:
        master.send_signal(signal.SIGTERM)
        try:
            master.wait(10)
        except subprocess.TimeoutExpired:
            master.kill()
            master.wait()
        sys.stderr.write((directory / "log").read_text())  # printed if the test fails


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while True:
        with suppress(requests.RequestException):
            if what():
                return
        assert time.monotonic() < end
        time.sleep(0.1)


def at_once(ask: Callable[[str], list[object]], path: str, times: int = 2) -> list[list[object]]:
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(ask, [path] * times))


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ((), "", ""),
        (("--enable-threads",), "", "import uwsgidecorators"),
        (("--enable-threads", "--threads", "2"), "import uwsgidecorators", ""),
        (("--lazy-apps", "--enable-threads"), "", ""),
        (("--enable-threads", "--py-call-uwsgi-fork-hooks"), "", ""),
        (("--enable-threads",), "", "import uwsgi; uwsgi.post_fork_hook = lambda: None"),
    ],
)
def test_workers_of_uwsgi_share_a_ledger(tmp_path: Path, options: tuple[str, ...], before: str, after: str) -> None:
    with serving(tmp_path, *options, before=before, after=after) as ask:
        rounds = [number for _, seen in at_once(ask, "/probes") for number in seen]  # type: ignore[attr-defined]  # a list
        assert len(rounds) > 5
        assert len(rounds) == len(set(rounds))  # one probe in each round
        results = sorted(str(result) for _, result in at_once(ask, "/bulkhead"))
        assert results == ["BulkheadFullError", "done"]
        for _ in range(20):
            ask("/call")
        before_fork = 2 if "--lazy-apps" in options else 1
        wait_for(lambda: ask("/snapshot")[1][0] == before_fork + 21)  # type: ignore[index]  # a list
        assert ask("/watched")[1] == 1
        assert sorted(int(str(rate)) for _, rate in at_once(ask, "/rate", 8)) == list(
            range(before_fork + 1, before_fork + 9)
        )


def test_killed_worker_of_uwsgi_is_reaped_without_a_call(tmp_path: Path) -> None:
    with serving(tmp_path, "--enable-threads") as ask, ThreadPoolExecutor() as pool:
        at_once(ask, "/bulkhead")
        hanging = pool.submit(ask, "/hang")
        wait_for(lambda: ask("/snapshot")[1][2] == 1)  # type: ignore[index]  # a list
        free = ask("/snapshot")[0]
        busy = next(pid for pid in _workers(int(str(free))) if pid != free)
        os.kill(busy, signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            hanging.result()
        wait_for(lambda: ask("/snapshot")[1][1:3] == [1, 0])  # type: ignore[index]  # a list


def _workers(worker: int) -> list[int]:
    """Return all workers with the same master as one of them."""
    master = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1]
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
