"""The commands of `cb`, and their output."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cb.clocks import wall
from cb.control import ACTIONS
from cb.errors import ConfigError, LedgerError
from cb.event_log import circuits
from cb.ledger.paths import state_directory

from .arguments import CONTROLS, parse
from .completion import script
from .ledgers import Survey, control_of, ledger_paths, survey
from .text import HEADINGS, age, clock, plain, rows, table

#: Changes of state that `explain` shows.
_LATEST = 3


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; `cb --help` lists the codes."""
    options = parse(arguments)
    try:
        with circuits.muted():
            code = _COMMANDS.get(options.command, _control)(options)
        sys.stdout.flush()  # here, where the closed pipe of a reader that has ended is caught
    except ConfigError as error:
        _print_error(error)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes again at its exit
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _status(options: argparse.Namespace) -> int:
    found = _survey(options)
    if options.json:
        _print(_document(found))
    elif found.ledgers:
        print(table([HEADINGS, *rows(found)]))
    return found.code


def _watch(options: argparse.Namespace) -> int:
    try:
        from .live import watch
    except ModuleNotFoundError:
        _print_error("watch needs rich: pip install 'distributed-circuit-breaker[cli]'; `cb status` needs no package")
        return 2
    watch(options.ledger)
    return 0


def _explain(options: argparse.Namespace) -> int:
    found = _survey(options)
    known = found.only(options.name)
    if not known.ledgers:
        return _unknown(options.name, found)
    if options.json:
        _print(_document(known))
        return known.code
    for each in known.ledgers:
        seen = each.breakers[options.name]
        print(plain(f"{each.name} {options.name}: {seen.why}"))
        if seen.last_failure:
            print(plain(f"  last failure {age(seen.last_failure.ago)} ago: {seen.last_failure}"))
        for event in each.events[-_LATEST:]:
            print(plain(f"  {clock(event.at)} {event.before} -> {event.after}: {event.reason}"))
    return known.code


def _events(options: argparse.Namespace) -> int:
    found = _survey(options)
    if options.name and options.name not in found.names:
        return _unknown(options.name, found)
    known = found.only(options.name) if options.name else found
    merged = [(event, each.name) for each in known.ledgers for event in each.events]
    merged.sort(key=lambda pair: (pair[0].at, pair[1], pair[0].number))
    latest = merged[-options.limit :]
    if options.json:
        _print(
            {
                "events": [{"ledger": ledger, **event.as_log_entry()} for event, ledger in latest],
                "errors": _errors(found),
            }
        )
    elif latest:
        lines = [
            (clock(event.at), ledger, event.name, f"{event.before} -> {event.after}", event.reason)
            for event, ledger in latest
        ]
        print(table([("TIME", "LEDGER", "BREAKER", "CHANGE", "WHY"), *lines]))
    return 3 if found.errors or not found.ledgers else 0


def _control(options: argparse.Namespace) -> int:
    found = _survey(options)
    known, errors, changes = found.only(options.name), [], []
    if not known.ledgers:
        return _unknown(options.name, found)
    if _ambiguous(options, known):
        return 2
    entry = {"reason": options.reason, "author": options.author, "host_only": options.host_only}
    for each in known.ledgers:
        try:
            control = control_of(each.path, options.name)
            if options.command == "reset":
                change = control.reset(**entry)
            else:
                change = ACTIONS[CONTROLS[options.command]](control, duration=options.seconds, **entry)
        except LedgerError as error:
            _print_error(error)
            errors.append(error)
        else:
            changes.append({"ledger": each.name, **change.as_dict()})
            if not options.json:
                print(plain(f"{each.name} {change.name}: {change.before} -> {change.after}, {change.reason}"))
    result = Survey(known.ledgers, [*found.errors, *errors])
    if options.json:
        _print({"changes": changes, "errors": _errors(result)})
    return 3 if result.errors else 0


def _configure(options: argparse.Namespace) -> int:
    found = _survey(options)
    known = found.only(options.name)
    if not known.ledgers:
        return _unknown(options.name, found)
    if _ambiguous(options, known):
        return 2
    changes, errors, invalid = [], [], False
    for each in known.ledgers:
        try:
            config = control_of(each.path, options.name).configure(
                reason=options.reason, author=options.author, host_only=options.host_only, **dict(options.settings)
            )
        except ConfigError as error:  # the setting may be valid together with those of another ledger
            _print_error(f"{each.name} {options.name}: {error}")
            invalid = True
        except LedgerError as error:
            _print_error(error)
            errors.append(error)
        else:
            changes.append({"ledger": each.name, "name": options.name, "config": asdict(config)})
            if not options.json:
                values = ", ".join(f"{name} = {getattr(config, name)}" for name, _ in options.settings)
                print(plain(f"{each.name} {options.name}: {values}"))
    result = Survey(known.ledgers, [*found.errors, *errors])
    if options.json:
        _print({"changes": changes, "errors": _errors(result)})
    return 2 if invalid else 3 if result.errors else 0


def _ambiguous(options: argparse.Namespace, known: Survey) -> bool:
    """Print an error and return True if several ledgers have the same name, and none was selected."""
    paths = [each.path for each in known.ledgers if each.name == each.path and not options.ledger]
    if paths:
        _print_error(f"ledgers with the same name: choose one with --ledger or CB_STATE_DIR from {', '.join(paths)}")
    return bool(paths)


def _completion(options: argparse.Namespace) -> int:
    print(script(options.shell), end="")
    return 0


def _names(options: argparse.Namespace) -> int:
    for name in survey(ledger_paths(options.ledger)).names:
        if name.startswith(options.prefix):
            print(plain(name))
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": _status,
    "watch": _watch,
    "explain": _explain,
    "events": _events,
    "configure": _configure,
    "completion": _completion,
    "__names": _names,
}


def _survey(options: argparse.Namespace) -> Survey:
    paths = ledger_paths(options.ledger)
    found = survey(paths)
    for error in found.errors:
        _print_error(error)
    if not paths:
        _print_error(f"no ledger in {state_directory(os.environ)}: no service has created one there")
    return found


def _unknown(name: str, found: Survey) -> int:
    if not found.ledgers:
        return 3
    _print_error(f"no breaker {name!r}, only {', '.join(found.names) or 'ledgers without breakers'}")
    return 2


def _document(found: Survey) -> dict[str, Any]:
    ledgers = [
        {
            "name": each.name,
            "path": each.path,
            "workers": each.workers,
            "breakers": {name: seen.as_dict(wall()) for name, seen in sorted(each.breakers.items())},
        }
        for each in found.ledgers
    ]
    return {"ledgers": ledgers, "errors": _errors(found)}


def _errors(found: Survey) -> list[dict[str, str]]:
    return [{"path": error.path, "reason": error.reason} for error in found.errors]


def _print(document: object) -> None:
    print(json.dumps(document, indent=2))


def _print_error(error: object) -> None:
    print(f"cb: {plain(str(error))}", file=sys.stderr)
