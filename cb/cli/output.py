"""Output that the commands share: documents, errors, and the ledgers that a command is about."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from cb.clocks import timestamp, wall
from cb.errors import LedgerError
from cb.ledger.paths import state_directory

from .ledgers import Survey, ledger_paths, survey
from .suggestions import listed
from .text import plain
from .users import as_user, hints, name_of, owner_of


def find(options: argparse.Namespace) -> Survey:
    """Return the ledgers that a command is about. Prints the errors of those that cannot be read."""
    paths = ledger_paths(options.ledger)
    found = survey(paths)
    # A file that was given by its path may be where a name finds none.
    found = Survey(
        [
            replace(each, selector=each.path) if options.ledger and each.name not in options.ledger else each
            for each in found.ledgers
        ],
        found.errors,
    )
    for error in found.errors:
        print_ledger_error(error, options)
    if not paths:
        _print_missing(options)
    return found


def _print_missing(options: argparse.Namespace) -> None:
    directory = state_directory(os.environ)
    try:
        next(directory.iterdir(), None)
    except PermissionError as error:
        print_ledger_error(LedgerError(str(directory), f"the directory cannot be read ({error.strerror})"), options)
    except OSError:
        print_error(f"no ledger in {directory}: there is no such directory, and no service runs that has created one")
    else:
        print_error(f"no ledger in {directory}: no service has created one there")
    print_hints(options)


def unknown(name: str, found: Survey, options: argparse.Namespace) -> int:
    """Print an error about a name that no breaker has, and return the exit code."""
    if not found.ledgers:
        return 3
    print_error(f"no breaker {name!r}: {listed(name, found.names) if found.names else 'the ledgers have no breakers'}")
    print_hints(options)
    return 2


def print_hints(options: argparse.Namespace) -> None:
    """Print the commands that show the ledgers of other users, unless ledgers were selected."""
    for hint in () if options.ledger else hints(options.given):
        print_error(hint)


def print_ledger_error(error: LedgerError, options: argparse.Namespace) -> None:
    """Print an error, and for a ledger of another user the command that acts as that user."""
    print_error(error)
    if (owner := owner_of(error.path)) is not None:
        print_error(f"it belongs to {name_of(owner)}: {as_user(owner, options.given)}")


def print_error(error: object) -> None:
    """Print a line to the standard error output."""
    print(f"cb: {plain(str(error))}", file=sys.stderr)


def print_document(document: object) -> None:
    """Print a JSON document."""
    print(json.dumps(document, indent=2))


def document_of(found: Survey) -> dict[str, Any]:
    """Return ledgers and errors as a JSON object."""
    ledgers = [
        {
            "name": each.name,
            "path": each.path,
            "workers": each.workers,
            "programs": each.programs,
            "retired_since": None if each.retired_since is None else timestamp(each.retired_since),
            "breakers": {name: seen.as_dict(wall()) for name, seen in sorted(each.breakers.items())},
        }
        for each in found.ledgers
    ]
    return {"ledgers": ledgers, "errors": errors_of(found.errors)}


def errors_of(errors: Iterable[LedgerError]) -> list[dict[str, str]]:
    """Return errors as JSON objects."""
    return [{"path": error.path, "reason": error.reason} for error in errors]
