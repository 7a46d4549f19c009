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
from cb.ledger.paths import state_directory

from .arguments import CONTROLS, parse
from .completion import script
from .ledgers import Survey, control_of, ledger_paths, survey
from .text import HEADINGS, age, clock, plain, rows, table

#: Changes of state that `explain` shows.
_LATEST = 3


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code; `cb --help` lists the codes."""
    asked = parse(arguments)
    try:
        code = _COMMANDS.get(asked.command, _control)(asked)
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


def _status(asked: argparse.Namespace) -> int:
    found = _survey(asked)
    if asked.json:
        _print(_document(found))
    elif found.ledgers:
        print(table([HEADINGS, *rows(found)]))
    return found.code


def _watch(asked: argparse.Namespace) -> int:
    try:
        from .live import watch
    except ModuleNotFoundError:
        _print_error("watch needs rich: pip install 'distributed-circuit-breaker[cli]'; `cb status` needs no package")
        return 2
    watch(asked.ledger)
    return 0


def _explain(asked: argparse.Namespace) -> int:
    found = _survey(asked)
    known = found.only(asked.name)
    if not known.ledgers:
        return _unknown(asked.name, found)
    if asked.json:
        _print(_document(known))
        return known.code
    for each in known.ledgers:
        seen = each.breakers[asked.name]
        print(plain(f"{each.name} {asked.name}: {seen.why}"))
        if seen.last_failure:
            print(plain(f"  last failure {age(seen.last_failure.ago)} ago: {seen.last_failure.type}"))
        for event in each.events[-_LATEST:]:
            print(plain(f"  {clock(event.at)} {event.before} -> {event.after}: {event.reason}"))
    return known.code


def _events(asked: argparse.Namespace) -> int:
    found = _survey(asked)
    if asked.name and asked.name not in found.names:
        return _unknown(asked.name, found)
    known = found.only(asked.name) if asked.name else found
    merged = [(event, each.name) for each in known.ledgers for event in each.events]
    merged.sort(key=lambda pair: (pair[0].at, pair[1], pair[0].number))
    latest = merged[-asked.limit :]
    if asked.json:
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


def _control(asked: argparse.Namespace) -> int:
    found = _survey(asked)
    known, errors, changes = found.only(asked.name), [], []
    if not known.ledgers:
        return _unknown(asked.name, found)
    if _ambiguous(asked, known):
        return 2
    entry = {"reason": asked.reason, "author": asked.author, "host_only": asked.host_only}
    for each in known.ledgers:
        try:
            control = control_of(each.path, asked.name)
            if asked.command == "reset":
                change = control.reset(**entry)
            else:
                change = ACTIONS[CONTROLS[asked.command]](control, duration=asked.seconds, **entry)
        except LedgerError as error:
            _print_error(error)
            errors.append(error)
        else:
            changes.append({"ledger": each.name, **change.as_dict()})
            if not asked.json:
                print(plain(f"{each.name} {change.name}: {change.before} -> {change.after}, {change.reason}"))
    result = Survey(known.ledgers, [*found.errors, *errors])
    if asked.json:
        _print({"changes": changes, "errors": _errors(result)})
    return 3 if result.errors else 0


def _configure(asked: argparse.Namespace) -> int:
    found = _survey(asked)
    known = found.only(asked.name)
    if not known.ledgers:
        return _unknown(asked.name, found)
    if _ambiguous(asked, known):
        return 2
    changes, errors, invalid = [], [], False
    for each in known.ledgers:
        try:
            config = control_of(each.path, asked.name).configure(
                author=asked.author, host_only=asked.host_only, **dict(asked.settings)
            )
        except ConfigError as error:  # the setting may be valid together with those of another ledger
            _print_error(f"{each.name} {asked.name}: {error}")
            invalid = True
        except LedgerError as error:
            _print_error(error)
            errors.append(error)
        else:
            changes.append({"ledger": each.name, "name": asked.name, "config": asdict(config)})
            if not asked.json:
                values = ", ".join(f"{name} = {getattr(config, name)}" for name, _ in asked.settings)
                print(plain(f"{each.name} {asked.name}: {values}"))
    result = Survey(known.ledgers, [*found.errors, *errors])
    if asked.json:
        _print({"changes": changes, "errors": _errors(result)})
    return 2 if invalid else 3 if result.errors else 0


def _ambiguous(asked: argparse.Namespace, known: Survey) -> bool:
    """Print an error and return True if several ledgers have the same name, and none was selected."""
    paths = [each.path for each in known.ledgers if each.name == each.path and not asked.ledger]
    if paths:
        _print_error(f"ledgers with the same name: choose one with --ledger or CB_STATE_DIR from {', '.join(paths)}")
    return bool(paths)


def _completion(asked: argparse.Namespace) -> int:
    print(script(asked.shell), end="")
    return 0


def _names(asked: argparse.Namespace) -> int:
    for name in survey(ledger_paths(asked.ledger)).names:
        if name.startswith(asked.prefix):
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


def _survey(asked: argparse.Namespace) -> Survey:
    paths = ledger_paths(asked.ledger)
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
