"""Workers of `uvicorn --workers`, in each of which a library guards a coroutine that calls the same dependency."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from .peers import OURS, Setting
from .valkey import wait_for
from .worker_pool import ANSWERED, REJECTED

#: libraries in the tables of several workers, by the names of `async_peers`
NAMES = (OURS, "aiobreaker", "interlock", "nopanic")
#: environment variables of the app: name of the library, and the fields of the `Setting`
LIBRARY, SETTING = "BENCH_LIBRARY", "BENCH_SETTING"
#: files in the directory: with FAILS calls fail; a worker has READY or HANGING and its process id when it is so
FAILS, READY, HANGING = "fails", "ready-", "hanging-"
#: behind the name of a library in a table
UVICORN = ", uvicorn"
#: seconds to wait for the workers' start, and for an outcome
_START_SECONDS, _BOUND_SECONDS = 60.0, 20.0


class Answer(NamedTuple):
    """Process id of the worker that made a call, the outcome, and if the call reached the dependency."""

    pid: int
    outcome: str
    reached: bool


class UvicornWorkers:
    """Running workers. Each request uses a connection of its own, and goes to any of them."""

    def __init__(self, port: int, directory: Path) -> None:
        self._port, self._directory = port, directory

    @property
    def pids(self) -> set[int]:
        """Process ids of the workers that have started."""
        return self._with(READY)

    @property
    def hanging(self) -> set[int]:
        """Process ids of the workers that have a hanging call."""
        return self._with(HANGING)

    def call(self) -> Answer:
        """Make a call."""
        return Answer(*self._ask("/call", _BOUND_SECONDS))

    def fail(self, fails: bool) -> None:
        """Make the dependency fail for all workers, or work again."""
        file = self._directory / FAILS
        if fails:
            file.touch()
        else:
            file.unlink()

    def until_all_reject(self, clients: int) -> int:
        """Call from several clients until each worker has rejected a call. Return the number of calls made."""
        open_workers: set[int] = set()
        pids, end = self.pids, time.monotonic() + _BOUND_SECONDS

        def call() -> int:
            reached = 0
            while not pids <= open_workers:
                if time.monotonic() > end:
                    raise TimeoutError(f"a worker did not reject within {_BOUND_SECONDS:g} s")
                answer = self.call()
                reached += answer.reached
                if answer.outcome == REJECTED:
                    open_workers.add(answer.pid)
            return reached

        with ThreadPoolExecutor(clients) as pool:
            return sum(pool.map(lambda _: call(), range(clients)))

    def until_answered(self, pid: int, seconds: float) -> float:
        """Call until a call of that worker succeeds. Return the seconds, infinity if none does in time."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            with suppress(OSError, HTTPException):  # a connection to a worker that was killed just now
                if self.call()[:2] == (pid, ANSWERED):
                    return time.monotonic() - begin
        return math.inf

    def hang(self, workers: int) -> set[int]:
        """Make calls that hang in that many workers, and return their process ids."""

        def send() -> None:
            with suppress(OSError, HTTPException):  # the worker is killed
                self._ask("/hang", 3600)

        while (before := len(self.hanging)) < workers:
            request = threading.Thread(target=send, daemon=True)
            request.start()
            wait_for(lambda: len(self.hanging) > before or not request.is_alive(), _BOUND_SECONDS)  # noqa: B023 - now
        return self.hanging

    def _ask(self, path: str, seconds: float) -> list[Any]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        try:
            connection.request("GET", path)
            found: list[Any] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()

    def _with(self, prefix: str) -> set[int]:
        return {int(file.name.removeprefix(prefix)) for file in self._directory.glob(f"{prefix}*")}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def uvicorn_workers(name: str, count: int, failures: int, timeout: float = 60.0) -> Iterator[UvicornWorkers]:
    """Run uvicorn with that many workers, in which the library's breakers have had no call.

    A success would stay in the window of one that has only rates.
    """
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "log").open("w") as log:
        setting = asdict(Setting(Path(directory), failures=failures, timeout=timeout)) | {"directory": directory}
        command = [sys.executable, "-m", "uvicorn", "--workers", str(count), "--log-level", "error", "--no-access-log"]
        port = _free_port()
        process = subprocess.Popen(
            [*command, "--port", str(port), "benchmarks.uvicorn_app:app"],
            env=os.environ | {LIBRARY: name, SETTING: json.dumps(setting)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        workers = UvicornWorkers(port, Path(directory))
        try:
            wait_for(lambda: len(workers.pids) == count, _START_SECONDS)
            yield workers
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
