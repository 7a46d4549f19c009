"""`from cb.integrations.gunicorn import *` in the configuration of an app of others, under real gunicorn."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import psutil
import pytest
import requests

from cb.integrations import gunicorn_hooks as hooks
from tests.support import ROOT
from tests.support.redis_servers import free_port
from tests.support.waiting import until

APP = """
import os
from flask import Flask
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from cb.integrations.flask import CircuitBreakers

app = Flask(__name__)
CircuitBreakers(app, metrics=%s, ledger=os.environ.get("LEDGER"))
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


#: how it is run
GUNICORN = (sys.executable, "-m", "gunicorn")


class Gunicorn:
    """One worker of an app in a directory, under the one line."""

    def __init__(
        self,
        home: Path,
        app: str,
        *options: str,
        run: Sequence[str] = GUNICORN,
        **environ: str,
    ) -> None:
        self.state, self.log = home / "state", home / "log"
        (home / "app.py").write_text(app)
        (home / "gunicorn.conf.py").write_text("from cb.integrations.gunicorn import *\n")
        self.url = f"http://127.0.0.1:{free_port()}"
        address = self.url.removeprefix("http://")
        command = [*run, "--no-control-socket", "-b", address, *options, "app:app"]
        surroundings = os.environ | {"CB_STATE_DIR": str(self.state), "PYTHONPATH": str(ROOT)} | environ
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=home, env=surroundings, stderr=log)
        self._contained = "--fork" in run

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

        until(answered)
        return int(pids[0])

    def metrics(self) -> str:
        answer = requests.get(f"{self.url}/metrics", timeout=5)
        assert answer.status_code == 200, self.log.read_text()
        return answer.text

    def stop(self) -> None:
        if self.process.poll() is None:
            for each in psutil.Process(self.process.pid).children() if self._contained else [self.process]:
                each.terminate()
        self.process.wait(15)


class Start(Protocol):
    """Starts an app, with our `/metrics` or without."""

    def __call__(self, ours: str, *options: str, home: str = ".", **given: Any) -> Gunicorn: ...


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with ExitStack() as stack:

        def start(ours: str, *options: str, home: str = ".", **given: Any) -> Gunicorn:
            (tmp_path / home).mkdir(exist_ok=True)
            gunicorn = Gunicorn(tmp_path / home, APP % ours, *options, **given)
            stack.callback(gunicorn.stop)
            return gunicorn

        yield start


@pytest.mark.parametrize(("ours", "path"), [("True", "/metrics"), ("False", "/theirs")])
def test_counts_of_a_killed_worker_are_kept(started: Start, ours: str, path: str) -> None:
    server = started(ours)
    killed = server.ask()
    os.kill(killed, signal.SIGKILL)
    assert server.ask() != killed
    assert "asked_total 2.0" in requests.get(server.url + path, timeout=5).text
    [directory] = server.state.glob("metrics-gunicorn-*")
    assert (directory / f"counter_{killed}.db").exists()
    assert not [*directory.glob(f"gauge_*_{killed}.db")]
    assert directory.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not directory.exists()


def test_directory_that_is_named_already_is_left_alone(
    started: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_directory_of_a_killed_master_is_removed_by_the_next_and_no_other_is(started: Start, tmp_path: Path) -> None:
    killed, state = started("True"), tmp_path / "state"
    worker = psutil.Process(killed.ask())  # which has the directory in use until it notices
    [left] = state.glob("metrics-gunicorn-*")
    killed.process.kill()
    killed.process.wait()
    worker.kill()
    worker.wait(15)
    beside = [state / name for name in ("metrics-gunicorn-backup", f"metrics-gunicorn-{2**22}", f"{left.name}.old")]
    for each in beside:
        each.mkdir()
        (each / "master.lock").touch()

    started("True").ask()

    assert not left.exists()
    assert all(each.exists() for each in beside)


def test_masters_with_equal_process_ids_keep_apart(started: Start, tmp_path: Path) -> None:
    container = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child", *GUNICORN)
    shared = {"CB_STATE_DIR": str(tmp_path / "state"), "CB_LEDGER": "shm://app"}
    one, other = (started("True", home=home, run=container, **shared) for home in ("one", "other"))
    pids = {server.ask() for server in (one, other)}
    for _ in range(4):
        one.ask()

    assert len(pids) == 1
    assert "asked_total 5.0" in one.metrics()
    assert "asked_total 1.0" in other.metrics()
    seen = requests.get(f"{one.url}/circuit-breakers/status", timeout=5).json()
    assert seen["workers"] == 2
    other.stop()
    until(lambda: len([*(tmp_path / "state").glob("metrics-gunicorn-*")]) == 1)
    assert "asked_total 5.0" in one.metrics()


def test_master_that_takes_over_after_a_reload_has_metrics_of_its_own(started: Start) -> None:
    # Run as a script: `python -m gunicorn` cannot be run again so.
    old = started("True", "--pid", "pid", run=(sys.executable, str(Path(sys.executable).with_name("gunicorn"))))
    before = old.ask()
    old.process.send_signal(signal.SIGHUP)
    until(lambda: old.ask() != before)

    old.process.send_signal(signal.SIGUSR2)
    until(lambda: len([*old.state.glob("metrics-gunicorn-*")]) == 2)
    new = int(wait_for_text(old.log.parent / "pid.2"))
    old.stop()
    try:
        old.ask()  # of the new one, which listens there too
        assert "asked_total " in old.metrics()
        assert len([*old.state.glob("metrics-gunicorn-*")]) == 1
    finally:
        os.kill(new, signal.SIGTERM)
    until(lambda: not [*old.state.glob("metrics-gunicorn-*")])


def wait_for_text(file: Path) -> str:
    until(lambda: file.exists() and file.read_text())
    return file.read_text()


def test_directory_that_is_removed_ends_no_worker_and_no_successor(started: Start) -> None:
    server = started("True")
    worker = server.ask()
    shutil.rmtree(*server.state.glob("metrics-gunicorn-*"))
    assert server.ask() == worker
    server.metrics()

    os.kill(worker, signal.SIGKILL)

    assert server.ask() != worker
    assert "asked_total 1.0" in server.metrics()


def test_directory_that_cannot_be_made_leaves_each_worker_its_own_metrics(started: Start) -> None:
    server = started("True", CB_STATE_DIR="/proc/nobody", LEDGER="memory://")
    server.ask()
    assert "asked_total" not in server.metrics()  # of the registry of the process: nothing is shared
    assert "workers do not share their metrics" in server.log.read_text()


#: one that any user may run, which the interpreter of the tests may not be
PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"


@pytest.fixture
def world() -> Iterator[Path]:
    """Return a directory that every user may look into, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def open_to_all(path: str) -> bool:
    """Return whether every user may look into a directory."""
    return all(each.stat().st_mode & 0o1 for each in (Path(path), *Path(path).parents))


@pytest.mark.skipif(os.geteuid() != 0 or not Path(PYTHON).exists(), reason="only root starts workers of another user")
@pytest.mark.skipif(
    not open_to_all(str(ROOT)) or not open_to_all(sysconfig.get_path("purelib")),
    reason="workers of another user cannot read this checkout or its environment: put both where all may look",
)
@pytest.mark.parametrize("preload", [(), ("--preload",)])
@pytest.mark.parametrize("state", ["own", "other", "shared", "closed"])
def test_workers_of_another_user_share_their_metrics(
    started: Start, world: Path, preload: tuple[str, ...], state: str
) -> None:
    (world / "state").mkdir(mode=0o711)
    if state == "closed":
        (world / "state").chmod(0o700)
    if state == "other":
        shutil.chown(world / "state", "nobody", "nogroup")
    options = ("--user", "nobody", "--group", "nogroup", "-w", "1", *preload)
    given = {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}", "LEDGER": "memory://"}
    run: tuple[str, ...] = (PYTHON, *GUNICORN[1:])
    if state == "shared":  # in a shared memory of its own
        given["CB_STATE_DIR"] = ""
        run = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh", *run)
    server = started("True", *options, home=str(world), run=run, **given)
    if state == "closed" and preload:  # counts in a directory that only root can enter would fail
        assert server.process.wait(15) != 0
        assert f"chmod a+x {world}/state" in server.log.read_text()
        return
    worker = server.ask()
    if state == "closed":
        assert "circuit_breaker_ledger_degraded" in server.metrics()
        assert "workers do not share their metrics, each has its own" in server.log.read_text()
        return
    assert "asked_total 1.0" in server.metrics()

    os.kill(worker, signal.SIGKILL)  # what it has counted is folded by its master, for a worker of that user

    assert server.ask() != worker
    assert "asked_total 2.0" in server.metrics()
    assert "Permission denied" not in server.log.read_text()


def test_state_directory_that_others_may_write_is_refused(started: Start, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    server = started("True")
    assert server.process.wait(15) != 0
    assert "is not a directory that this user alone may write to" in server.log.read_text()


@pytest.mark.parametrize("kind", ["list", "queue"])
@pytest.mark.parametrize(
    ("told", "ends"), [([], False), ([signal.SIGHUP], False), ([signal.SIGHUP, signal.SIGTERM], True)]
)
def test_worker_that_receives_sigterm_before_it_has_handlers_ends(kind: str, told: list[int], ends: bool) -> None:
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
