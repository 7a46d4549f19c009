"""Greenlets: workers of gunicorn with gevent, which patch before or after the app is loaded, and a program of its own.

docs/rules.md, rules 7, 10, 11, 13 and 24.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.app_servers import GUNICORN, AppServer, app_server
from tests.support.waiting import until

pytestmark = [
    pytest.mark.quiet,
    pytest.mark.skipif(sys.platform == "win32", reason="gevent is installed elsewhere only"),
]
APP = """
import json, os, time

from cb import BreakerConfig, Bulkhead, CircuitBreaker, RejectedError

vendor = CircuitBreaker(
    "vendor",
    BreakerConfig(
        failure_threshold=3,
        failure_rate_threshold=None,
        timeout=3,
        timeout_jitter=0,
        max_requests=1,
        success_threshold=1,
    ),
    shared=True,
)
bulkhead = Bulkhead(CircuitBreaker("bulkhead", shared=True), 2)
hangs = False


def call(path):
    global hangs
    if path == "/fail":
        raise ConnectionError
    hangs = path == "/hang"
    time.sleep({"/slow": 0.5, "/hang": 60}.get(path, 0.01))
    return "done"


def answer(path):
    if path == "/state":
        seen, totals = vendor.snapshot(), vendor.snapshot().totals
        return [totals.failures, seen.in_flight]
    if path == "/hangs":
        return hangs
    try:
        return bulkhead.call(call, "/slow") if path == "/bulkhead" else vendor.call(call, path)
    except RejectedError as error:
        return type(error).__name__
    except ConnectionError:
        return "failed"


vendor.call(call, "/done")  # with --preload in the master, which patches nothing


def application(environ, start_response):
    body = json.dumps([os.getpid(), answer(environ["PATH_INFO"])]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""
WORKERS = 2


@pytest.fixture(
    params=[
        pytest.param((), id="loaded by each worker", marks=pytest.mark.nightly),  # docs/integrations/gevent.md does so
        pytest.param(("--preload",), id="preloaded"),
    ]
)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AppServer]:
    """Yield a server with two workers, which patch before they load the app, or after."""
    command = (*GUNICORN, str(WORKERS), "--worker-class", "gevent", *request.param, "app")
    with app_server(tmp_path, APP, *command) as server:
        yield server


def test_greenlets_of_all_workers_share_breaker_and_bulkhead(server: AppServer) -> None:
    workers = server.all_answer("/done", "done", WORKERS)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            server.send(pool, "/slow")
        until(lambda: server.value("/state")[1] == 6)  # none keeps another one from running
    assert Counter(answer.value for answer in server.at_once("/bulkhead", 6)) == {"done": 2, "BulkheadFullError": 4}
    assert [server.value("/fail") for _ in range(4)] == ["failed"] * 3 + ["CircuitOpenError"]
    assert server.all_answer("/done", "CircuitOpenError", WORKERS) == workers
    assert server.all_answer("/done", "done", WORKERS) == workers

    with ThreadPoolExecutor(2) as pool:
        server.send(pool, "/hang")
        until(lambda: server.value("/state") == [3, 1])
        hanging = until(lambda: [answer.pid for answer in server.at_once("/hangs", 4) if answer.value])[0]
        os.kill(hanging, signal.SIGKILL)
    until(lambda: server.value("/state") == [4, 0])  # no other call reports it


PROGRAM = """
import subprocess, sys, time
{early}
from cb import BreakerConfig, CircuitBreaker, Ledger, State
from cb.background.watchdog import WATCHDOG

config = BreakerConfig(
    failure_threshold=2, failure_rate_threshold=None, slow_call_duration=0.2, timeout=0.1, max_requests=1,
    success_threshold=1
)
ledger = Ledger.in_file(sys.argv[1])
breaker = CircuitBreaker("d", config, ledger=ledger)
breaker.call(int)
breaker.snapshot()
{late}
import gevent

def interrupted(seconds):
    with gevent.Timeout(seconds, False):
        breaker.call(gevent.sleep, 10)

def fails():
    gevent.sleep(0.001)
    raise ConnectionError

def fail(times):
    gevent.joinall([gevent.spawn(failed) for _ in range(times)], raise_error=True)

def failed():
    try:
        breaker.call(fails)
    except ConnectionError:
        pass

def counted(name):
    return getattr(breaker.snapshot().totals, name)

# A time-out is an interruption: neutral, a failure once the call was slow.
interrupted(0.01)
assert (counted("neutral"), counted("failures")) == (1, 0)
interrupted(0.25)
assert (counted("neutral"), counted("failures")) == (1, 1)

# A greenlet that is killed in a probe returns its permit.
fail(3)
assert breaker.state is State.OPEN
gevent.sleep(0.15)
probe = gevent.spawn(breaker.call, gevent.sleep, 10)
gevent.sleep(0.01)
assert breaker.state is State.HALF_OPEN and breaker.snapshot().in_flight == 1
probe.kill()
breaker.call(int)
assert breaker.state is State.CLOSED

# Blocks of greenlets overlap.
def block(number):
    with breaker:
        gevent.sleep(0.001 * number)
        with breaker.guard():
            gevent.sleep(0.001)

before = counted("successes")
gevent.joinall([gevent.spawn(block, number) for number in range(10)], raise_error=True)
assert counted("successes") == before + 20
assert breaker.snapshot().in_flight == 0

# A process that has stopped with the lock holds no greenlet.
holder = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], stdout=subprocess.PIPE)
holder.stdout.readline()
beats = 0
def heart():
    global beats
    while True:
        gevent.sleep(0.001)
        beats += 1
beating = gevent.spawn(heart)
try:
    fail(50)
    assert beats >= 10, beats
    assert breaker.state is State.CLOSED
finally:
    holder.kill()
    holder.wait()
with gevent.Timeout(10):
    while breaker.state is State.CLOSED:
        gevent.sleep(0.01)
beating.kill()

# A child has its own shard and watchdog.
gevent.sleep(0.15)
breaker.call(int)
child = gevent.fork()
if child == 0:
    breaker.call(gevent.sleep, 0.001)
    import os
    os._exit(0 if ledger.workers() == 2 and WATCHDOG.running else 1)
assert gevent.os.waitpid(child, 0)[1] == 0

# The watchdog sees a greenlet that hangs.
hung = CircuitBreaker("hung", BreakerConfig(failure_threshold=1, call_timeout=0.05), ledger=ledger)
greenlet = gevent.spawn(hung.call, gevent.sleep, 60)
with gevent.Timeout(10):
    while hung.state is State.CLOSED:
        gevent.sleep(0.01)
"""
HOLDER = """
import os, signal, sys
from cb import Ledger

def stop():
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

Ledger.in_file(sys.argv[1]).core.lock.run(stop, 1)
"""
PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize(("early", "late"), [(PATCH, ""), ("", PATCH)], ids=["patched before", "patched after a call"])
def test_greenlets_of_one_process_count_probe_and_wait_as_threads_do(tmp_path: Path, early: str, late: str) -> None:
    program = PROGRAM.replace("{early}", early).replace("{late}", late)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "ledger"), HOLDER],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
