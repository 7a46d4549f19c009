"""The commands that only read: `status`, `watch`, `explain` and `events`."""

import argparse
import os
import shlex

from cb.states import counted

from .arguments import DEFAULT_LIMIT
from .ledgers import LedgerReport, Survey, ledger_paths, names_of, survey
from .output import document_of, errors_of, find, print_document, print_error, print_hints, unknown
from .text import HEADINGS, advice, clock, failure, plain, reason, retirement, rows, table

#: changes of state that `explain` shows
_LATEST = 3


def status(options: argparse.Namespace) -> int:
    """List all breakers, or those with one name."""
    found = find(options)
    known = found.only(options.name) if options.name else found
    if options.name and not known.ledgers:
        return unknown(options.name, found, options)
    if options.json:
        print_document(document_of(known))
    elif options.name:
        _print_details(known, options)
    elif known.ledgers:
        _print_table(known, options)
    if found.ledgers and not options.name and _is_root():
        print_hints(options)
    return known.code


def watch(options: argparse.Namespace) -> int:
    """List all breakers, updated until q or Ctrl-C."""
    try:
        from .live import watch as show
    except ModuleNotFoundError:
        print_error("watch needs rich: pip install 'distributed-circuit-breaker[cli]'; `cb status` needs no package")
        return 2
    show(options.ledger)
    return 0


def explain(options: argparse.Namespace) -> int:
    """Explain the state of a breaker."""
    found = find(options)
    known = found.only(options.name)
    if not known.ledgers:
        return unknown(options.name, found, options)
    if options.json:
        print_document(document_of(known))
        return known.code
    for each in known.ledgers:
        seen = each.breakers[options.name]
        print(plain(f"{each.name} {options.name}: {reason(each, options.name)}"))
        if seen.last_failure:
            print(plain(f"  {failure(seen.last_failure)}"))
        for event in each.events[-_LATEST:]:
            print(plain(f"  {clock(event.at)} {event.before} -> {event.after}: {event.reason}"))
        _print_advice(known, each, options)
    return known.code


def events(options: argparse.Namespace) -> int:
    """List the latest changes of state."""
    found = find(options)
    if options.name and options.name not in found.names:
        return unknown(options.name, found, options)
    known = found.only(options.name) if options.name else found
    since = 0.0 if options.since is None else options.since
    merged = [(event, each.name) for each in known.ledgers for event in each.events if event.at >= since]
    merged.sort(key=lambda pair: (pair[0].at, pair[1], pair[0].number))
    latest = merged[-(options.limit or (DEFAULT_LIMIT if options.since is None else len(merged) or 1)) :]
    if options.json:
        entries = [{"ledger": ledger, **event.as_log_entry()} for event, ledger in latest]
        print_document({"events": entries, "errors": errors_of(found.errors)})
    elif latest:
        lines = [
            (clock(event.at), ledger, event.name, f"{event.before} -> {event.after}", event.reason)
            for event, ledger in latest
        ]
        print(table([("TIME", "LEDGER", "BREAKER", "CHANGE", "WHY"), *lines]))
    elif known.ledgers:
        print(plain(f"no change of state{_of(options)}"))
    return 3 if found.errors or not found.ledgers else 0


def names(options: argparse.Namespace) -> int:
    """List the names of breakers that begin with a prefix, for the shell."""
    return _complete(survey(ledger_paths(options.ledger)).names, options.prefix)


def ledgers(options: argparse.Namespace) -> int:
    """List the names of ledgers that begin with a prefix, for the shell."""
    return _complete(sorted(names_of(ledger_paths(options.ledger)).values()), options.prefix)


def _complete(words: list[str], prefix: str) -> int:
    for word in words:
        if word.startswith(prefix):
            print(plain(word))
    return 0


def _print_table(found: Survey, options: argparse.Namespace) -> None:
    if lines := rows(found):
        print(table([HEADINGS, *lines]))
    elif found.live:
        print(plain(f"no breakers yet in {', '.join(each.name for each in found.live)}"))
    for each in found.ledgers:
        if len(each.programs) > 1:
            print(plain(f"{each.name}: shared by programs with different code: {', '.join(each.programs)}"))
    for each in found.retired:
        print(plain(retirement(each)))
    if rejecting := sorted({name for each in found.ledgers for name in each.rejecting}):
        where = [word for each in found.ledgers if options.ledger for word in ("--ledger", each.selector)]
        command = shlex.join(["cb", "explain", rejecting[0], *where])
        print(plain(f"rejecting calls: {', '.join(rejecting)}; next: {command}"))


def _print_details(known: Survey, options: argparse.Namespace) -> None:
    print(table([HEADINGS, *rows(known)]))
    for each in known.ledgers:
        print(plain(f"{each.name}: {counted(each.workers, 'live worker')}, {each.path}"))
        if len(each.programs) > 1:
            print(plain(f"  shared by programs with different code: {', '.join(each.programs)}"))
        if failed := each.breakers[options.name].last_failure:
            print(plain(f"  {failure(failed)}"))
        _print_advice(known, each, options)


def _print_advice(known: Survey, each: LedgerReport, options: argparse.Namespace) -> None:
    for line in advice(each, options.name, select=len(known.ledgers) > 1 or bool(options.ledger)):
        print(plain(f"  {line}"))


def _of(options: argparse.Namespace) -> str:
    of = f" of {options.name}" if options.name else ""
    return of if options.since is None else f"{of} since {clock(options.since)}"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
