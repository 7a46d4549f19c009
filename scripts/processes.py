"""The processes of the platform: started in the background, found by an environment variable, stopped in order."""

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

from .ports import port_conflict
from .services import ROOT, RUN, SERVICES, STATE, Service

#: signals that end the launcher; not all systems have all of them
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 15.0
#: environment variable of all started processes. Unlike a pid in a file, it cannot belong to an unrelated process.
MARK = "CB_STARTED_AS"


class StartError(Exception):
    """The platform cannot start. The message has the reason and the remedy."""


def start(wanted: Iterable[Service]) -> dict[Service, Popen[bytes]]:
    """Start the services that are not running, and return them once they are healthy. Raises StartError."""
    new = [service for service in wanted if not is_running(service)]
    try:
        if len({service.port for service in SERVICES}) < len(SERVICES):
            ports = ", ".join(f"{service.name} {service.port}" for service in SERVICES)
            raise StartError(f"Each service needs a port of its own: {ports}.")
        for service in new:
            _end(service)  # workers whose master was killed
        if obstacles := [why for service in new if (why := port_conflict(service))]:
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
    """Stop services and wait for their end, ignoring further signals. Return those that were running."""
    with _signals_ignored():
        ran = [service for service in wanted if processes_of(service)]
        for service in wanted:
            service.pid_file.unlink(missing_ok=True)
        for service in reversed(ran):  # dependents first, so that they can finish running requests
            _end(service)
        _wipe_state()
    return ran


def processes_of(service: Service) -> list[psutil.Process]:
    """Return the processes of a service that were started in this directory, with their children."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == _mark(service) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_running(service: Service) -> bool:
    """Return True if the main process of a service is alive."""
    try:
        main = int(service.pid_file.read_text())
    except (OSError, ValueError):
        return False
    return main in {process.pid for process in processes_of(service)}


def last_lines(service: Service, count: int = 60) -> str:
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
            # A process group of its own: Ctrl-C reaches the launcher only, which stops the services in order.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    service.pid_file.write_text(f"{process.pid}\n")
    return process


def _wait_until_healthy(started: dict[Service, Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    waiting = dict(started)
    while waiting:
        for service, process in list(waiting.items()):
            if process.poll() is not None:
                raise StartError(f"{service.name} ended immediately. The end of {service.log}:\n{last_lines(service)}")
            if service.healthy():
                del waiting[service]
        if time.monotonic() > deadline:
            service = next(iter(waiting))
            problem = f"{service.name} is not healthy after {START_TIMEOUT_SECONDS:.0f} s"
            raise StartError(f"{problem}. The end of {service.log}:\n{last_lines(service)}")
        time.sleep(0.05)


def _end(service: Service) -> None:
    signals: tuple[Callable[[psutil.Process], None], ...] = (psutil.Process.terminate, psutil.Process.kill)
    for send in signals:
        for process in processes_of(service):
            with suppress(psutil.Error):
                send(process)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not processes_of(service):
                return
            time.sleep(0.05)


def _wipe_state() -> None:
    """Remove the state directory unless a running service uses it, so that no ledger outlives its run."""
    if not any(processes_of(service) for service in SERVICES):
        shutil.rmtree(STATE, ignore_errors=True)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
