"""The ledgers of this host: where they are, what stands in them."""

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
from cb.ledger.paths import path_of, state_directory
from cb.registry import Registry
from cb.snapshot import Snapshot, read_snapshot
from cb.states import ADMITTING

from .running import in_use

_SUFFIX = f".v{VERSION}.ledger"


@dataclass(frozen=True, slots=True)
class Seen:
    """What stood in a ledger when it was looked at."""

    #: that of the file; its whole path, where another has the same name
    name: str
    path: str
    #: live processes that count calls in it
    workers: int
    breakers: dict[str, Snapshot]
    events: list[StateChange]


@dataclass(frozen=True, slots=True)
class Survey:
    """All ledgers that were asked for, and what was wrong with the others."""

    ledgers: list[Seen]
    errors: list[LedgerError]

    @property
    def names(self) -> list[str]:
        """The names of all breakers."""
        return sorted({name for each in self.ledgers for name in each.breakers})

    def only(self, name: str) -> "Survey":
        """Return what is known of the breakers of that name."""
        found = [
            Seen(
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
        """The exit code: 3 if something could not be seen, 1 if a circuit refuses calls, else 0."""
        if self.errors or not self.ledgers:
            return 3
        return int(any(seen.state not in ADMITTING for each in self.ledgers for seen in each.breakers.values()))


def places(urls: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the files that are meant: those named, else all that services have. Raises ConfigError.

    Where no directory is set, those that running services have elsewhere are among them.
    """
    directory = state_directory(environ)
    if not urls:
        elsewhere = set() if environ.get("CB_STATE_DIR") else in_use(_SUFFIX)
        return sorted({*directory.glob(f"*{_SUFFIX}"), *elsewhere})
    if "memory://" in urls:
        raise ConfigError("--ledger", "be a file: nobody else sees memory", "memory://")
    return [path_of(url, directory) if "://" in url else Path(url) for url in urls]


def survey(paths: Iterable[Path]) -> Survey:
    """Look at ledgers. Writes nothing."""
    names = {path: path.name.removesuffix(_SUFFIX) for path in paths}
    shared = {name for name, number in Counter(names.values()).items() if number > 1}
    seen: list[Seen] = []
    errors: list[LedgerError] = []
    for path, name in names.items():
        try:
            seen.append(_look(path, str(path) if name in shared else name))
        except LedgerError as error:
            errors.append(error)
    return Survey(seen, errors)


def steering(path: str, name: str) -> BreakerControl:
    """Return what holds and resets a breaker. Raises LedgerError."""
    found = Registry(ledger=Ledger.in_file(path)).steer(name)
    if found is None:
        raise LedgerError(path, f"has no breaker {name!r} any more")
    return found


def _look(path: Path, name: str) -> Seen:
    ledger, now = Ledger.view(path), monotonic_ns()
    try:
        breakers = {breaker: read_snapshot(ledger, breaker, now) for breaker in ledger.names()}
        return Seen(name, ledger.path, ledger.workers(), breakers, ledger.history())
    except (ArithmeticError, IndexError, ValueError) as error:  # no number that we write leads there
        raise LedgerError(ledger.path, "is damaged") from error
