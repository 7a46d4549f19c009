"""The commands that change a breaker: `force-open`, `disable`, `metrics-only`, `reset` and `configure`."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cb.clocks import timestamp, wall
from cb.control import ACTIONS, BreakerControl
from cb.errors import ConfigError, LedgerError
from cb.states import HELD

from .arguments import CONTROLS
from .choice import chosen
from .ledgers import LedgerReport, control_of
from .output import errors_of, find, print_document, print_error, print_ledger_error, unknown
from .text import clock, plain
from .users import require_own


def control(options: argparse.Namespace) -> int:
    """Put a circuit into a state."""

    def act(each: LedgerReport, breaker: BreakerControl) -> dict[str, Any]:
        entry = {"reason": options.reason, "author": options.author, "host_only": options.host_only}
        if options.command == "reset":
            change, seconds = breaker.reset(**entry), None
        else:
            seconds = options.seconds
            change = ACTIONS[CONTROLS[options.command]](breaker, duration=seconds, **entry)
        until = None if seconds is None else wall() + seconds
        if not options.json:
            print(plain(f"{each.name} {change.name}: {change.before} -> {change.after}, {change.reason}"))
            if change.after in HELD:
                print(plain(f"  {_end(each, change.name, until)}"))
            _print_retired(each)
        return {"ledger": each.name, **change.as_dict(), "until": None if until is None else timestamp(until)}

    return _change(options, act)


def configure(options: argparse.Namespace) -> int:
    """Change thresholds of a breaker."""

    def act(each: LedgerReport, breaker: BreakerControl) -> dict[str, Any]:
        config = breaker.configure(
            reason=options.reason, author=options.author, host_only=options.host_only, **dict(options.settings)
        )
        if not options.json:
            values = ", ".join(f"{name} = {getattr(config, name)}" for name, _ in options.settings)
            print(plain(f"{each.name} {options.name}: {values}"))
            _print_retired(each)
        return {"ledger": each.name, "name": options.name, "config": asdict(config)}

    return _change(options, act)


def _change(options: argparse.Namespace, act: Callable[[LedgerReport, BreakerControl], dict[str, Any]]) -> int:
    """Act on the breaker in each chosen ledger, and return the exit code."""
    found = find(options)
    known = found.only(options.name)
    if not known.ledgers:
        return unknown(options.name, found, options)
    if not (ledgers := chosen(options, known)):
        return 2
    changes, errors, invalid = [], list(found.errors), False
    for each in ledgers:
        try:
            require_own(each.path)
            changes.append(act(each, control_of(each.path, options.name)))
        except ConfigError as error:  # the setting may be valid together with those of another ledger
            print_error(f"{each.name} {options.name}: {error}")
            invalid = True
        except LedgerError as error:
            print_ledger_error(error, options)
            errors.append(error)
    if options.json:
        print_document({"changes": changes, "errors": errors_of(errors)})
    return 2 if invalid else 3 if errors else 0


def _end(each: LedgerReport, name: str, until: float | None) -> str:
    """Return the end of an operator's state, and the command that ends it."""
    reset = shlex.join(["cb", "reset", name, "--ledger", each.selector])
    if until is None:
        return f"until reset (--for 15m would end it by itself): {reset}"
    return f"until {clock(until)}; to end it earlier: {reset}"


def _print_retired(each: LedgerReport) -> None:
    if each.retired:
        print(plain(f"  {each.name} is retired: no live worker; processes that start will find this state"))
