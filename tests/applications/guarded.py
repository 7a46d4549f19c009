"""Applications under several real workers, and the figures of docs/applications.md."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.support import ROOT
from tests.support.redis_servers import free_port
from tests.support.waiting import until

HOME = Path(__file__).parent
PAGE = ROOT / "docs/applications.md"
WORKERS = 4
#: calls that reach the dependency until all workers reject: the threshold, and one that each other worker has begun
MOST_CALLS = 5 + WORKERS - 1
#: name in the table, by directory
_SHOWN = {
    "microblog": "Flask, like microblog",
    "weather": "Django",
    "feeds": "WSGI under gevent",
    "orders": "SQLAlchemy on PostgreSQL",
    "mailer": "Celery",
}
#: a line of code that the guard needs, in a file that is not the guard as a whole
_GUARD = re.compile(r"  # guard$", re.MULTILINE)


@dataclass(slots=True)
class Report:
    """The figures of one application."""

    name: str
    #: lines of code that the guard needs
    lines: int
    #: calls that failed before all workers rejected
    calls: int = 0
    #: seconds from the first failure until all workers rejected, and from the return until all called again
    opened: float = 0.0
    closed: float = 0.0
    #: lines of the log about the circuit
    log: list[str] = field(default_factory=list)


def guard_lines(name: str) -> int:
    """Count the lines of code of an application that are there for the guard."""
    count = 0
    for path in sorted((HOME / name).rglob("*.py")):
        text = path.read_text()
        code = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", '"""'))]
        count += len(code) if "all of this is the guard" in text else len(_GUARD.findall(text))
    return count


def environ_of(name: str, home: Path, environ: dict[str, str]) -> dict[str, str]:
    """Return the environment of the processes of an application."""
    ours = {"CB_STATE_DIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | ours | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HOME / name}"} | environ


@contextmanager
def started(command: list[str], name: str, home: Path, environ: dict[str, str]) -> Iterator[Path]:
    """Run a program in the directory of an application. Yield the file of its output."""
    log = home / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            cwd=HOME / name,
            env=environ_of(name, home, environ),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def gunicorn(
    name: str, target: str, home: Path, environ: dict[str, str], *options: str, python: str = sys.executable
) -> Iterator["Workers"]:
    """Serve an application by four workers of gunicorn."""
    port = free_port()
    command = [python, "-m", "gunicorn", "--workers", str(WORKERS), *options]
    command += ["--bind", f"127.0.0.1:{port}", "--access-logfile", str(home / "access"), target]
    command[-1:-1] = ["--access-logformat", "%(p)s %(s)s"]
    with started(command, name, home, environ) as log:
        yield Workers(f"http://127.0.0.1:{port}/call", home / "access", log)


class Workers:
    """The workers of a web application, and what each has answered."""

    def __init__(self, url: str, access: Path, log: Path) -> None:
        self._url, self._access, self.log = url, access, log

    def call(self) -> None:
        """Send eight requests at once."""
        threads = [threading.Thread(target=self._ask) for _ in range(2 * WORKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def seen(self) -> list[tuple[str, int]]:
        """Return the process and the status of each response."""
        text = self._access.read_text() if self._access.exists() else ""
        return [(pid, int(status)) for pid, status in re.findall(r"<(\d+)> (\d+)", text)]

    def _ask(self) -> None:
        with suppress(HTTPError, URLError, OSError, HTTPException):  # a status, or not yet started
            urlopen(Request(self._url, headers={"Connection": "close"}), timeout=10).close()


_CLIENT = """
import json, sys, mailer
for _ in sys.stdin:
    sent = [mailer.send.delay("a@example.com") for _ in range(8)]
    print(json.dumps([each.get(timeout=30) for each in sent]), flush=True)
"""


class Children:
    """The children of a worker of Celery: each call is a task. A context manager."""

    def __init__(self, log: Path, environ: dict[str, str]) -> None:
        self.log = log
        self._seen: list[tuple[str, int]] = []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self._client = subprocess.Popen([sys.executable, "-c", _CLIENT], env=environ, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.communicate(timeout=30)

    def call(self) -> None:
        """Send eight tasks at once."""
        self._client.stdin.write("\n")
        self._seen += [(str(pid), status) for pid, status in json.loads(self._client.stdout.readline())]

    def seen(self) -> list[tuple[str, int]]:
        """Return the process and the status of each task."""
        return self._seen


def all_workers(seen: list[tuple[str, int]], status: int) -> bool:
    """Return True if each of the workers has given a status."""
    return len({pid for pid, each in seen if each == status}) == WORKERS


def follow(
    workers: Workers | Children, report: Report, stop: Callable[[], object], restore: Callable[[], object]
) -> Report:
    """Break the dependency until all workers reject, and restore it until all call again. Return the figures."""

    def wait_for(status: int, first: int) -> float:
        begin = time.monotonic()

        def given() -> bool:
            workers.call()
            return all_workers(workers.seen()[first:], status)

        until(given, f"{status} of all workers", seconds=60)
        return time.monotonic() - begin

    wait_for(200, 0)
    before = len(workers.seen())
    stop()
    report.opened = wait_for(503, before)
    report.calls = sum(status not in {200, 503} for _, status in workers.seen()[before:])
    before = len(workers.seen())
    restore()
    report.closed = wait_for(200, before)
    time_and_process = r"^\[.*?\] |^\S+ \S+ \[.*?\] "
    report.log = [
        re.sub(time_and_process, "", line)
        for line in workers.log.read_text().splitlines()
        if re.search(r"\bcircuit \S+: ", line)
    ]
    return report


def write_table(reports: list[Report]) -> None:
    """Write the figures into docs/applications.md."""
    named = [(each, _SHOWN[each.name]) for each in reports]
    rows = [
        f"| {shown} | {each.lines} | {each.calls} | {each.opened:.1f} s | {each.closed:.1f} s |"
        for each, shown in named
    ]
    head = [
        "| Application | Lines | Failed calls | All reject after | All call again after |",
        f"| --- {'| ---: ' * 4}|",
    ]
    logs = [line for each, shown in named for line in (shown, *each.log, "")]
    table = "\n".join([*head, *rows, "", "```text", *logs[:-1], "```"])
    marked = r"(?s)(<!-- applications: .*? -->\n).*?(<!-- /applications -->)"
    PAGE.write_text(re.sub(marked, lambda found: found[1] + table + "\n" + found[2], PAGE.read_text()))
