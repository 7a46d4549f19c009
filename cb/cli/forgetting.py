"""The command `forget`: removes the files of retired ledgers."""

import argparse
from pathlib import Path
from typing import Any

from cb.clocks import timestamp
from cb.errors import LedgerError
from cb.ledger.removal import IN_USE, remove

from .ledgers import LedgerReport, ledger_paths, survey
from .output import errors_of, print_document, print_ledger_error
from .running import writers
from .text import clock, plain
from .users import require_own


def forget(options: argparse.Namespace) -> int:
    """Remove retired ledgers. One that a live process has in use stays as it is."""
    removed: list[dict[str, Any]] = []
    errors: list[LedgerError] = []
    for path in ledger_paths(options.ledger):
        report = next(iter(survey([path]).ledgers), None)  # None: it is damaged
        try:
            _remove(path, report)
        except LedgerError as error:
            print_ledger_error(error, options)
            errors.append(error)
        else:
            since = report.retired_since if report else None
            removed.append({"path": str(path), "retired_since": None if since is None else timestamp(since)})
            if not options.json:
                print(plain(_answer(path, report)))
    if options.json:
        print_document({"removed": removed, "errors": errors_of(errors)})
    return 3 if errors else 0


def _remove(path: Path, report: LedgerReport | None) -> None:
    require_own(str(path))
    users = writers([path])[path]
    if users or (report and report.workers):
        raise LedgerError(str(path), _in_use(users))
    try:
        remove(str(path.absolute()))
    except LedgerError as error:
        if error.reason != IN_USE:
            raise
        raise LedgerError(error.path, _in_use(writers([path])[path])) from error


def _in_use(users: list[int]) -> str:
    who = f" ({'process' if len(users) == 1 else 'processes'} {', '.join(map(str, users))})" if users else ""
    return f"{IN_USE}{who}, and was not removed: end the service first"


def _answer(path: Path, report: LedgerReport | None) -> str:
    if report is None or report.retired_since is None:
        return f"removed {path} and its locks"
    states = ", ".join(f"{name} {seen.state}" for name, seen in sorted(report.breakers.items()))
    return f"removed {path} and its locks, retired since {clock(report.retired_since)}" + (
        f": {states}" if states else ""
    )
