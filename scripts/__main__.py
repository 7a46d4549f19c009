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
from .screen import ask
from .services import SERVICES, Service
from .walkthrough import Walkthrough

_NAMES = [service.name for service in SERVICES]


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    chosen = _command_line(arguments)
    # A closed terminal and a polite kill are like Ctrl-C, and so is Ctrl-C where a shell has it ignored.
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
    # Once: a second signal, of the same kind or another, must not interrupt what cleans up after the first.
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


def _start(wanted: list[Service]) -> int:
    new = start(wanted)
    for service in wanted:
        print(
            f"{service.name:<12} {service.url}  {'started' if service in new else 'runs already'}, log: {service.log}"
        )
    print("`make stop-all` stops what runs.")
    return 0


def _stop() -> int:
    print("\n".join(f"{service.name} stopped" for service in stop()) or "nothing runs")
    return 0


def _demo(record: Path | None) -> int:
    """Play on what runs; what had to be started for it is stopped again."""
    new = start(SERVICES)
    try:
        return 0 if _play(record, pauses=True) else 1
    finally:
        stop(new)


def _up(*, walkthrough: bool, record: Path | None) -> int:
    """Start all, offer or play the walk-through, stay until Ctrl-C, leave nothing behind."""
    began = time.monotonic()
    new = start(SERVICES)
    try:
        print(f"All services are healthy after {time.monotonic() - began:.1f} s.")
        for service in SERVICES:
            print(f"  {service.name:<12} {service.url}")
        if walkthrough:
            return 0 if _play(record, pauses=False) else 1
        if ask("Play the walk-through now?"):
            _play(record, pauses=True)
        print(f"The services run until you press Ctrl-C. Watch them: {SERVICES[-1].url}/dashboard", flush=True)
        return _watch(new)
    except KeyboardInterrupt:
        return 130 if walkthrough else 0
    finally:
        stop(new)
        print("Stopped." if new else "Still running: they were started elsewhere. `make stop-all` stops them.")


def _watch(started: dict[Service, Popen[bytes]]) -> int:
    """Return when a service has ended: 0 if it was told to."""
    while all(process.poll() is None for process in started.values()):
        time.sleep(0.2)
    for service, process in started.items():
        if process.poll() is not None and service.pid_file.exists():
            print(f"{service.name} ended by itself. The end of {service.log}:\n{last_lines(service)}", file=sys.stderr)
            return 1
    return 0


def _play(record: Path | None, *, pauses: bool) -> bool:
    market_data, _, gateway = SERVICES
    with recording(f"{gateway.url}/dashboard", record) as camera:
        return Walkthrough(gateway.url, market_data.url).play(camera, pauses=pauses)


def _command_line(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts", description="Starts, shows and stops the platform.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("start", help="start services in the background and wait until they are healthy")
    verb.add_argument(
        "services", nargs="*", choices=[[], *_NAMES], metavar="service", help=f"{', '.join(_NAMES)}; default: all"
    )
    verbs.add_parser("stop", help="stop all that was started, and leave nothing behind")
    record = argparse.ArgumentParser(add_help=False)
    record.add_argument(
        "--record", metavar="DIRECTORY", type=Path, help="leave a picture of the live page after each phase there"
    )
    verbs.add_parser("demo", parents=[record], help="play the walk-through on what runs, else start it for that")
    verb = verbs.add_parser("up", parents=[record], help="start all, offer the walk-through, stay until Ctrl-C")
    verb.add_argument("--demo", action="store_true", help="play the walk-through without asking, then stop")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
