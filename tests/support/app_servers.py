"""Servers with several worker processes, each a command on a loopback port, and requests to all their workers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support import ROOT
from tests.support.redis_servers import free_port
from tests.support.waiting import until

#: gunicorn, without its control socket
GUNICORN = ("gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}", "--workers")
#: seconds of one request
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of one worker: its process id, and the value that it returned."""

    pid: int
    value: Any


class AppServer:
    """A running server whose app answers each request with a JSON list: the process id and a value."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url = url
        self.process = process
        self._log = log

    def ask(self, path: str) -> Answer:
        """Send a request on a connection of its own."""
        response = requests.get(self.url + path, headers={"Connection": "close"}, timeout=_SECONDS)
        return Answer(*response.json())

    def value(self, path: str) -> Any:
        """Return the value of a response."""
        return self.ask(path).value

    def at_once(self, path: str, times: int) -> list[Answer]:
        """Send requests at the same time."""
        with ThreadPoolExecutor(times) as pool:
            return list(pool.map(self.ask, [path] * times))

    def send(self, pool: ThreadPoolExecutor, path: str) -> None:
        """Send a request in the background, whose response may never come."""

        def request() -> None:
            with suppress(requests.RequestException, ValueError):  # the worker may be killed
                self.ask(path)

        pool.submit(request)

    def all_answer(self, path: str, value: Any, workers: int) -> set[int]:
        """Send requests until that many workers have returned a value. Return their process ids."""
        pids: set[int] = set()

        def asked() -> bool:
            pids.update(answer.pid for answer in self.at_once(path, 2 * workers) if answer.value == value)
            return len(pids) >= workers

        until(asked, f"{value!r} from {workers} workers at {path}")
        return pids

    def up(self) -> bool:
        """Return True if it answers. Raises AssertionError if it has ended."""
        with suppress(requests.RequestException, ValueError):
            self.ask("/state")
            return True
        assert self.process.poll() is None, self.log()
        return False

    def log(self) -> str:
        """Return the output so far."""
        return self._log.read_text()


@contextmanager
def app_server(directory: Path, app: str, *command: str, **environ: str) -> Iterator[AppServer]:
    """Write `app` to app.py in a directory, and run a module of Python there that serves it. Its port is `{port}`.

    The ledger of the app's project is in the directory, unless `environ` says otherwise.
    """
    (directory / "app.py").write_text(app)
    port, log = free_port(), directory / "log"
    arguments = [part.format(port=port) for part in command]
    path = os.pathsep.join((str(directory), str(ROOT)))
    environ = os.environ | {"CB_STATE_DIR": str(directory), "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"} | environ
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=directory,
            env=environ,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = AppServer(f"http://127.0.0.1:{port}", process, log)
    try:
        until(server.up, "the server's start")
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        sys.stderr.write(server.log())  # printed if the test fails
