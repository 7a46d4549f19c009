"""The processes of the platform: started in the background, found again by a mark, ended as whole groups."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen

import psutil

from .ports import why_taken
from .services import ROOT, RUN, SERVICES, STATE, Service

#: what ends the launcher like Ctrl-C does; not all systems have all of them
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
#: in the environment of all that we start. A pid in a file may be a stranger's by now; this cannot.
MARK = "CB_STARTED_AS"


class StartError(Exception):
    """The platform cannot start; the message says why, and what helps."""


def start(wanted: Iterable[Service]) -> dict[Service, Popen[bytes]]:
    """Start those that do not run yet, and return them once they are healthy. Raises StartError."""
    new = [service for service in wanted if not runs(service)]
    try:
        if len({service.port for service in SERVICES}) < len(SERVICES):
            ports = ", ".join(f"{service.name} {service.port}" for service in SERVICES)
            raise StartError(f"Each service needs a port of its own: {ports}.")
        for service in new:
            _end(service)  # workers whose master was killed
        if obstacles := [why for service in new if (why := why_taken(service))]:
            raise StartError("\n".join(obstacles))
        _wipe_state()
        STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
        started = {service: _launch(service) for service in new}
        _wait_until_healthy(started)
    except BaseException:
        stop(new)
        raise
    return started


def stop(wanted: Iterable[Service] = SERVICES) -> list[Service]:
    """End services and wait until they are gone. Return those that ran. No second Ctrl-C cuts it short."""
    with _undisturbed():
        ran = [service for service in wanted if ours(service)]
        for service in wanted:
            service.pid_file.unlink(missing_ok=True)
        for service in reversed(ran):  # whoever needs another goes first, and can finish what it has begun
            _end(service)
        _wipe_state()
    return ran


def ours(service: Service) -> list[psutil.Process]:
    """Return the processes that were started as this service in this directory, and what they started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == _mark(service) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def runs(service: Service) -> bool:
    """Return whether the process that leads a service is alive."""
    try:
        leader = int(service.pid_file.read_text())
    except (OSError, ValueError):
        return False
    return leader in {process.pid for process in ours(service)}


def last_lines(service: Service, count: int = 15) -> str:
    """Return the end of a service's log, indented."""
    lines = service.log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (it logged nothing)"


def _mark(service: Service) -> str:
    return str(RUN / service.name)


def _launch(service: Service) -> Popen[bytes]:
    with service.log.open("wb") as log:
        process = Popen(
            [sys.executable, "-m", service.module],
            cwd=ROOT,
            env=os.environ | service.environment() | {MARK: _mark(service)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own, on POSIX and on Windows: a Ctrl-C here is for the launcher, which ends them in order.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    service.pid_file.write_text(f"{process.pid}\n")
    return process


def _wait_until_healthy(started: dict[Service, Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    waiting = dict(started)
    while waiting:
        for service, process in list(waiting.items()):
            if process.poll() is not None:
                raise StartError(f"{service.name} ended at once. The end of {service.log}:\n{last_lines(service)}")
            if service.healthy():
                del waiting[service]
        if time.monotonic() > deadline:
            service = next(iter(waiting))
            what = f"{service.name} is not healthy after {START_SECONDS:.0f} s"
            raise StartError(f"{what}. The end of {service.log}:\n{last_lines(service)}")
        time.sleep(0.05)


def _end(service: Service) -> None:
    ways: tuple[Callable[[psutil.Process], None], ...] = (psutil.Process.terminate, psutil.Process.kill)
    for way in ways:
        for process in ours(service):
            with suppress(psutil.Error):
                way(process)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if not ours(service):
                return
            time.sleep(0.05)


def _wipe_state() -> None:
    """Remove the state directory, unless a running service uses it: a ledger is never shared with an earlier run."""
    if not any(ours(service) for service in SERVICES):
        shutil.rmtree(STATE, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
