"""Recorders, test doubles and gevent, which replace connections."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import vcr
from freezegun import freeze_time
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from vcr.errors import CannotOverwriteExistingCassetteException

from cb import CircuitBreaker, Registry
from cb.http import CircuitBreakerAdapter, HTTPClient, guarded_session
from tests.support.misbehaving import Server, answer, drip_body

# Recorders drop connections without closing them.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def guarded(session: requests.Session) -> requests.Session:
    session.mount("http://", CircuitBreakerAdapter(Registry(), "d", timeout=5))
    return session


def test_recorder_replays_without_network_access(server: Server, guarded: requests.Session, tmp_path: Path) -> None:
    server.act = answer(200, '{"from": "the server"}')
    assert guarded.get(server.url).status_code == 200  # its connection stays in the pool
    recorder = vcr.VCR(cassette_library_dir=str(tmp_path))
    clients = (guarded, guarded_session(Registry(), "e"))
    for session in clients:
        with recorder.use_cassette("c.yaml", record_mode="once", allow_playback_repeats=True):
            assert session.get(f"{server.url}/recorded").json() == {"from": "the server"}
    sent = len(server.requests)
    assert sent == 2
    for session in clients:
        with recorder.use_cassette("c.yaml", record_mode="none", allow_playback_repeats=True):
            assert session.get(f"{server.url}/recorded").json() == {"from": "the server"}
            with pytest.raises(CannotOverwriteExistingCassetteException):
                session.get(f"{server.url}/other")
    assert len(server.requests) == sent
    assert guarded.get(server.url).status_code == 200
    assert len(server.requests) == sent + 1


def test_client_in_a_recorder_makes_no_network_access(server: Server, breaker: CircuitBreaker, tmp_path: Path) -> None:
    client = HTTPClient(server.url, 2, breaker)
    client.get_json("/a")
    with (
        vcr.use_cassette(str(tmp_path / "c.yaml"), record_mode="none"),
        pytest.raises(CannotOverwriteExistingCassetteException),
    ):
        client.get_json("/a")
    assert len(server.requests) == 1


def test_interceptor_that_replaces_the_connection_class_is_used(
    server: Server, guarded: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interceptor(HTTPConnection):
        def connect(self) -> None:
            raise LookupError("intercepted")

    monkeypatch.setattr(HTTPConnectionPool, "ConnectionCls", Interceptor)
    with pytest.raises(LookupError):
        guarded.get(server.url)
    monkeypatch.undo()
    assert guarded.get(server.url).status_code == 200
    assert len(server.requests) == 1


def test_blocker_that_replaces_the_socket_class_is_respected(
    server: Server, guarded: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blocked(socket.socket):
        def __new__(cls, *_: Any, **__: Any) -> Any:
            raise RuntimeError("a test wants to use the network")

    monkeypatch.setattr(socket, "socket", Blocked)
    with pytest.raises(RuntimeError, match="wants to use"):
        guarded.get(server.url)
    monkeypatch.undo()
    assert server.requests == []


def test_deadline_holds_while_the_clock_is_frozen(server: Server, session: requests.Session) -> None:
    session.mount("http://", CircuitBreakerAdapter(Registry(), "d", timeout=0.3))
    server.act = drip_body
    with freeze_time("2030-01-01"), pytest.raises(requests.RequestException):
        session.get(server.url)


GEVENT = """
import sys, time
import cb, cb.http, cb.bulkhead, cb.resilience
registry = cb.Registry(ledger=cb.Ledger.in_file(sys.argv[1]))
session = cb.http.guarded_session(registry, "d", timeout=5)
bulkhead = cb.Bulkhead(cb.CircuitBreaker("b"), 1, wait=1)
import warnings; warnings.simplefilter("ignore")
import gevent.monkey; gevent.monkey.patch_all()
import gevent, gevent.pywsgi

def slow(environ, start_response):
    gevent.sleep(0.3)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

server = gevent.pywsgi.WSGIServer(("127.0.0.1", 0), slow, log=None)
server.start()
url = f"http://127.0.0.1:{server.server_port}/"

def ask():
    assert session.get(url).text == "ok"

def held():
    bulkhead.call(gevent.sleep, 0.05)

begin = time.monotonic()
jobs = [gevent.spawn(ask) for _ in range(10)] + [gevent.spawn(held) for _ in range(4)]
gevent.joinall(jobs, raise_error=True, timeout=20)
print("side by side" if time.monotonic() - begin < 1.5 else "one after the other")

hung = cb.CircuitBreaker("h", cb.BreakerConfig(failure_threshold=1, call_timeout=0.1))
job = gevent.spawn(hung.call, gevent.sleep, 20)
with gevent.Timeout(10):
    while hung.state is cb.State.CLOSED:
        gevent.sleep(0.01)
print(hung.state, registry.get("d").snapshot().totals.successes)
"""


def test_greenlets_call_concurrently_when_gevent_patches_after_the_import(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GEVENT, str(tmp_path / "l")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.splitlines() == ["side by side", "OPEN 10"], ran.stderr
