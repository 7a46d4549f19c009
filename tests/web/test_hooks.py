"""`from cb.web.gunicorn import *` in the configuration of an app of others, under real gunicorn."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from cb.web import hooks
from tests.fleet.servers import free_port
from tests.web.conftest import ROOT, wait_until

APP = """
import os
from flask import Flask
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from cb.web import CircuitBreakers

app = Flask(__name__)
CircuitBreakers(app, metrics=%s)
asked = Counter("asked", "Questions.")


@app.get("/ask")
def ask():
    asked.inc()
    return str(os.getpid())


@app.get("/theirs")
def theirs():
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
"""


class Gunicorn:
    """One worker of an app in a directory, under the one line."""

    def __init__(self, home: Path, app: str) -> None:
        self.state, self.log = home / "state", home / "log"
        (home / "app.py").write_text(app)
        (home / "gunicorn.conf.py").write_text("from cb.web.gunicorn import *\n")
        self.url = f"http://127.0.0.1:{free_port()}"
        command = ["-m", "gunicorn", "--no-control-socket", "-b", self.url.removeprefix("http://"), "app:app"]
        environ = os.environ | {"CB_STATE_DIR": str(self.state), "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, *command], cwd=home, env=environ, stderr=log)

    def ask(self) -> int:
        """Return the process id of the worker, once there is one."""
        pids: list[str] = []

        def answered() -> bool:
            try:
                pids.append(requests.get(f"{self.url}/ask", timeout=5).text)
            except requests.ConnectionError:  # not yet, or the worker that had taken the connection is no more
                assert self.process.poll() is None, self.log.read_text()
                return False
            return True

        wait_until(answered)
        return int(pids[0])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(15)


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Gunicorn]]:
    """Yield what starts an app, with our `/metrics` or without."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with ExitStack() as stack:

        def start(ours: str) -> Gunicorn:
            gunicorn = Gunicorn(tmp_path, APP % ours)
            stack.callback(gunicorn.stop)
            return gunicorn

        yield start


@pytest.mark.parametrize(("ours", "path"), [("True", "/metrics"), ("False", "/theirs")])
def test_counts_of_a_killed_worker_stay_for_whoever_reads_them(
    started: Callable[[str], Gunicorn], ours: str, path: str
) -> None:
    server = started(ours)
    killed = server.ask()
    os.kill(killed, signal.SIGKILL)
    assert server.ask() != killed
    assert "asked_total 2.0" in requests.get(server.url + path, timeout=5).text
    [directory] = server.state.glob("metrics-gunicorn-*")
    # prometheus_client knows the files of workers only; ours are added up, and gone.
    assert (directory / f"counter_{killed}.db").exists() is (ours == "False")
    assert directory.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not directory.exists()


def test_directory_that_is_named_already_is_left_alone(
    started: Callable[[str], Gunicorn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(theirs))
    server = started("True")
    worker = server.ask()
    assert (theirs / f"counter_{worker}.db").exists()
    assert not [*server.state.glob("metrics-*")]
    server.stop()
    assert theirs.exists()


def test_directory_of_a_killed_master_is_removed_by_the_next(
    started: Callable[[str], Gunicorn], tmp_path: Path
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / "state" / f"metrics-gunicorn-{dead.pid}"
    alive = tmp_path / "state" / f"metrics-gunicorn-{os.getpid()}"
    for each in (left, alive):
        each.mkdir(parents=True)
    left.parent.chmod(0o700)
    started("True").ask()
    assert (left.exists(), alive.exists()) == (False, True)


def test_state_directory_that_others_may_write_is_refused(started: Callable[[str], Gunicorn], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    server = started("True")
    assert server.process.wait(15) != 0
    assert "is not a directory that this user alone may write to" in server.log.read_text()


@pytest.mark.parametrize("kind", ["list", "queue"])
@pytest.mark.parametrize(
    ("told", "ends"), [([], False), ([signal.SIGHUP], False), ([signal.SIGHUP, signal.SIGTERM], True)]
)
def test_worker_that_was_told_to_end_before_it_could_listen_ends(kind: str, told: list[int], ends: bool) -> None:
    queued: queue.SimpleQueue[int] = queue.SimpleQueue()
    for each in told:
        queued.put(each)
    worker = SimpleNamespace()
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        hooks.post_fork(SimpleNamespace(SIG_QUEUE=list(told) if kind == "list" else queued), worker)
        hooks.post_worker_init(worker)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] * ends
