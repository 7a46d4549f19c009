"""The launcher: `python -m scripts start|stop|up|demo`."""

import argparse
import signal
import sys
import time
from pathlib import Path
from subprocess import Popen

from servicekit import SettingsError

from .processes import SIGNALS, StartError, last_lines, start, stop
from .recorder import recording
from .screen import confirm
from .services import SERVICES, Service
from .walkthrough import Walkthrough

_NAMES = [service.name for service in SERVICES]


def main(arguments: list[str] | None = None) -> int:
    """Run the launcher. Return the exit code."""
    chosen = _parse(arguments)
    # SIGHUP and SIGTERM act like Ctrl-C; so does SIGINT where a shell has set it to be ignored.
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        match chosen.verb:
            case "start":
                return _start([service for service in SERVICES if service.name in (chosen.services or _NAMES)])
            case "stop":
                return _stop()
            case "demo":
                return _demo(chosen.record)
            case _:
                return _up(walkthrough=chosen.demo, record=chosen.record)
    except (StartError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupt(*_: object) -> None:
    # Once: a second signal must not interrupt the cleanup after the first.
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def _start(wanted: list[Service]) -> int:
    new = start(wanted)
    for service in wanted:
        state = "started" if service in new else "is running already"
        print(f"{service.name:<12} {service.url}  {state}, log: {service.log}")
    print("`make stop-all` stops them.")
    return 0


def _stop() -> int:
    print("\n".join(f"{service.name} stopped" for service in stop()) or "nothing is running")
    return 0


def _demo(record: Path | None) -> int:
    """Play on the running services; services started for it are stopped afterwards."""
    new = start(SERVICES)
    try:
        return 0 if _play(record, pauses=True) else 1
    finally:
        stop(new)


def _up(*, walkthrough: bool, record: Path | None) -> int:
    """Start all services, offer or play the walk-through, run until Ctrl-C, and stop the services."""
    began = time.monotonic()
    new = start(SERVICES)
    try:
        print(f"All services are healthy after {time.monotonic() - began:.1f} s.")
        for service in SERVICES:
            print(f"  {service.name:<12} {service.url}")
        if walkthrough:
            return 0 if _play(record, pauses=False) else 1
        if confirm("Play the walk-through now?"):
            _play(record, pauses=True)
        print(f"The services run until you press Ctrl-C. Watch them: {SERVICES[-1].url}/dashboard", flush=True)
        return _watch(new)
    except KeyboardInterrupt:
        return 130 if walkthrough else 0
    finally:
        stop(new)
        print("Stopped." if new else "Still running: they were started elsewhere. `make stop-all` stops them.")


def _watch(started: dict[Service, Popen[bytes]]) -> int:
    """Wait until a service ends. Return 0 if it was stopped on purpose, else 1."""
    while all(process.poll() is None for process in started.values()):
        time.sleep(0.2)
    for service, process in started.items():
        if process.poll() is not None and service.pid_file.exists():
            print(
                f"{service.name} ended unexpectedly. The end of {service.log}:\n{last_lines(service)}", file=sys.stderr
            )
            return 1
    return 0


def _play(record: Path | None, *, pauses: bool) -> bool:
    market_data, _, gateway = SERVICES
    with recording(f"{gateway.url}/dashboard", record) as camera:
        return Walkthrough(gateway.url, market_data.url).play(camera, pauses=pauses)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts", description="Starts, shows and stops the platform.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("start", help="start services in the background and wait until they are healthy")
    verb.add_argument(
        "services", nargs="*", choices=[[], *_NAMES], metavar="service", help=f"{', '.join(_NAMES)}; default: all"
    )
    verbs.add_parser("stop", help="stop the services and remove their state")
    record = argparse.ArgumentParser(add_help=False)
    record.add_argument(
        "--record",
        metavar="DIRECTORY",
        type=Path,
        help="save a picture of the live page after each phase in this directory",
    )
    verbs.add_parser("demo", parents=[record], help="play the walk-through on the running services, or on new ones")
    verb = verbs.add_parser("up", parents=[record], help="start all services, offer the walk-through, run until Ctrl-C")
    verb.add_argument("--demo", action="store_true", help="play the walk-through without asking, then stop")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
