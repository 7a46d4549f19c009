"""The choice of ledgers for a command that changes a breaker."""

import argparse
import sys

from cb.states import counted

from .ledgers import LedgerReport, Survey
from .output import print_error
from .text import plain, table


def chosen(options: argparse.Namespace, known: Survey) -> list[LedgerReport]:
    """Return the ledgers to act on, none if that is not clear; then an error was printed.

    Those that --ledger names are all meant. Otherwise retired ledgers do not count beside live ones, and of several the
    user chooses: with --all, or at the terminal.
    """
    candidates = known.ledgers if options.ledger else known.live or known.ledgers
    if len(candidates) == 1 or options.ledger or options.everywhere:
        return candidates
    if sys.stdin.isatty() and sys.stderr.isatty():
        return _ask(options, candidates)
    names = ", ".join(each.name for each in candidates)
    print_error(
        f"{len(candidates)} ledgers have a breaker {options.name!r}: {names}; nothing was changed. "
        f"Choose with --ledger {candidates[0].name}, or take them all with --all"
    )
    return []


def _ask(options: argparse.Namespace, candidates: list[LedgerReport]) -> list[LedgerReport]:
    lines = [
        (f"  {number}", each.name, each.breakers[options.name].state.value, counted(each.workers, "worker"), each.path)
        for number, each in enumerate(candidates, 1)
    ]
    print(plain(f"{len(candidates)} ledgers have a breaker {options.name!r}:"), file=sys.stderr)
    print(table(lines), file=sys.stderr)
    print(f"Which one? 1 to {len(candidates)}, a for all, Enter for none: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower()
    if answer in ("a", "all"):
        return candidates
    if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= len(candidates):
        return [candidates[int(answer) - 1]]
    print_error("nothing was changed")
    return []
