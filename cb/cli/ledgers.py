"""The ledgers of this host: their files and their contents."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cb.clocks import monotonic_ns
from cb.control import BreakerControl
from cb.errors import ConfigError, LedgerError
from cb.events import StateChange
from cb.ledger.layout import VERSION
from cb.ledger.ledger import Ledger
from cb.ledger.paths import ledger_path, state_directory
from cb.registry import Registry
from cb.snapshot import Snapshot, read_snapshot
from cb.states import ADMITTING

from .running import mapped_files

_SUFFIX = f".v{VERSION}.ledger"


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """The contents of a ledger at one moment."""

    #: name of the file without its suffix; the whole path if several files have that name
    name: str
    path: str
    #: number of live processes that count calls in the ledger
    workers: int
    breakers: dict[str, Snapshot]
    events: list[StateChange]


@dataclass(frozen=True, slots=True)
class Survey:
    """The ledgers that could be read, and the errors of the others."""

    ledgers: list[LedgerReport]
    errors: list[LedgerError]

    @property
    def names(self) -> list[str]:
        """The names of all breakers."""
        return sorted({name for each in self.ledgers for name in each.breakers})

    def only(self, name: str) -> "Survey":
        """Return a survey of the breakers with that name alone."""
        found = [
            LedgerReport(
                each.name,
                each.path,
                each.workers,
                {name: each.breakers[name]},
                [event for event in each.events if event.name == name],
            )
            for each in self.ledgers
            if name in each.breakers
        ]
        return Survey(found, self.errors)

    @property
    def code(self) -> int:
        """The exit code: 3 if a ledger cannot be read or there is none, 1 if a circuit rejects calls, else 0."""
        if self.errors or not self.ledgers:
            return 3
        return int(any(seen.state not in ADMITTING for each in self.ledgers for seen in each.breakers.values()))


def ledger_paths(urls: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the given ledger files, by default those of all services. Raises ConfigError.

    Unless $CB_STATE_DIR is set, files that running processes have open in other directories are included.
    """
    directory = state_directory(environ)
    if not urls:
        mapped = set() if environ.get("CB_STATE_DIR") else mapped_files(_SUFFIX)
        return sorted({*directory.glob(f"*{_SUFFIX}"), *mapped})
    if "memory://" in urls:
        raise ConfigError("--ledger", "be a file: memory belongs to one process", "memory://")
    return [ledger_path(url, directory) if "://" in url else Path(url) for url in urls]


def survey(paths: Iterable[Path]) -> Survey:
    """Read ledgers. Writes nothing."""
    names = {path: path.name.removesuffix(_SUFFIX) for path in paths}
    ambiguous = {name for name, number in Counter(names.values()).items() if number > 1}
    reports: list[LedgerReport] = []
    errors: list[LedgerError] = []
    for path, name in names.items():
        try:
            reports.append(_read(path, str(path) if name in ambiguous else name))
        except LedgerError as error:
            errors.append(error)
    return Survey(reports, errors)


def control_of(path: str, name: str) -> BreakerControl:
    """Return the control of a breaker. Raises LedgerError."""
    found = Registry(ledger=Ledger.in_file(path)).control(name)
    if found is None:
        raise LedgerError(path, f"has no breaker {name!r} any more")
    return found


def _read(path: Path, name: str) -> LedgerReport:
    ledger, now = Ledger.view(path), monotonic_ns()
    try:
        breakers = {breaker: read_snapshot(ledger, breaker, now) for breaker in ledger.names()}
        return LedgerReport(name, ledger.path, ledger.workers(), breakers, ledger.history())
    except (ArithmeticError, IndexError, ValueError) as error:  # numbers written by this library raise none of these
        raise LedgerError(ledger.path, "is damaged") from error
