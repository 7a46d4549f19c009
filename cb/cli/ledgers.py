"""The ledgers of this host: their files and their contents."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cb.clocks import monotonic_ns, wall
from cb.control import BreakerControl
from cb.errors import ConfigError, LedgerError
from cb.events import StateChange
from cb.ledger import layout as at
from cb.ledger.ledger import Ledger
from cb.ledger.paths import ledger_path, state_directory
from cb.ledger.readonly import UNUSED
from cb.registry import Registry
from cb.snapshot import Snapshot, read_snapshot
from cb.states import ADMITTING

from .running import is_ledger, mapped_files, writers

SUFFIX = f".v{at.VERSION}.ledger"


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """The contents of a ledger at one moment."""

    #: as in the column LEDGER: name of the file without its suffix; the whole path if several files have that name
    name: str
    path: str
    #: number of live processes that count calls in the ledger
    workers: int
    #: the programs of these processes, by the name of their project: one, as a rule
    programs: list[str]
    breakers: dict[str, Snapshot]
    events: list[StateChange]
    #: time of the last sign of life, in seconds since the epoch, if no live process has the ledger in use; else None
    retired_since: float | None
    #: argument of --ledger that selects it
    selector: str = field(kw_only=True)

    @property
    def retired(self) -> bool:
        """True if no live process has the ledger in use."""
        return self.retired_since is not None

    @property
    def rejecting(self) -> list[str]:
        """The breakers that reject calls of live processes."""
        return [
            name for name, seen in sorted(self.breakers.items()) if seen.state not in ADMITTING and not self.retired
        ]


@dataclass(frozen=True, slots=True)
class Survey:
    """The ledgers that could be read, and the errors of the others."""

    #: live ledgers first
    ledgers: list[LedgerReport]
    errors: list[LedgerError]

    @property
    def names(self) -> list[str]:
        """The names of all breakers."""
        return sorted({name for each in self.ledgers for name in each.breakers})

    @property
    def live(self) -> list[LedgerReport]:
        """The ledgers that live processes have in use."""
        return [each for each in self.ledgers if not each.retired]

    @property
    def retired(self) -> list[LedgerReport]:
        """The other ledgers."""
        return [each for each in self.ledgers if each.retired]

    def only(self, name: str) -> "Survey":
        """Return a survey of the breakers with that name alone."""
        found = [
            replace(
                each,
                breakers={name: each.breakers[name]},
                events=[event for event in each.events if event.name == name],
            )
            for each in self.ledgers
            if name in each.breakers
        ]
        return Survey(found, self.errors)

    @property
    def code(self) -> int:
        """The exit code: 3 if a ledger cannot be read or there is none, 1 if a live circuit rejects calls, else 0."""
        if self.errors or not self.ledgers:
            return 3
        return int(any(each.rejecting for each in self.ledgers))


def ledger_paths(urls: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the given ledger files, by default those of all services. Raises ConfigError.

    Unless $CB_STATE_DIR is set, ledgers of any name that running processes have open in other directories, and those in
    the current directory whose names end in `.ledger`, are included.

    Args:
        urls: Names as the column LEDGER shows them, files, or URLs.
        environ: The environment.
    """
    if not urls:
        return _all_paths(environ)
    return list(dict.fromkeys(_path_of(url, environ) for url in urls))


def names_of(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the name of each ledger, which is the whole path where several files have the same name."""
    names = {path: path.name.removesuffix(SUFFIX) for path in paths}
    numbers = Counter(names.values())
    return {path: name if numbers[name] == 1 else str(path) for path, name in names.items()}


def survey(paths: Iterable[Path]) -> Survey:
    """Read ledgers. Writes nothing."""
    reports: list[LedgerReport] = []
    errors: list[LedgerError] = []
    for path, name in names_of(paths).items():
        try:
            reports.append(_read(path, name))
        except LedgerError as error:
            if error.reason == UNUSED:
                reports.append(LedgerReport(name, str(path), 0, [], {}, [], _modified(path), selector=name))
            else:
                errors.append(error)
    return Survey(sorted(_without_idle(reports), key=lambda each: each.retired), errors)


def control_of(path: str, name: str) -> BreakerControl:
    """Return the control of a breaker. Raises LedgerError."""
    found = Registry(ledger=Ledger.in_file(path)).control(name)
    if found is None:
        raise LedgerError(path, f"has no breaker {name!r} any more")
    return found


def _all_paths(environ: Mapping[str, str]) -> list[Path]:
    found = set[Path]()
    if not environ.get("CB_STATE_DIR"):
        found.update(mapped_files(SUFFIX))
        with suppress(OSError):  # the current directory was removed
            found.update(filter(is_ledger, Path.cwd().glob("*.ledger")))
    with suppress(OSError):  # another user's directory
        found.update(state_directory(environ).glob(f"*{SUFFIX}"))
    return sorted(found)


def _path_of(text: str, environ: Mapping[str, str]) -> Path:
    """Return the file that a name, a path or a URL stands for. A name comes first."""
    if text == "memory://":
        raise ConfigError("--ledger", "be a file: memory belongs to one process", text)
    if "://" in text:
        return ledger_path(text, state_directory(environ))
    paths = _all_paths(environ)
    found = [path for path in paths if text in (path.name.removesuffix(SUFFIX), str(path))]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError("--ledger", f"be the path of one of {', '.join(map(str, found))}", text)
    if os.sep in text or Path(text).is_file():
        return Path(text)
    known = ", ".join(sorted(names_of(paths).values()))
    raise ConfigError(
        "--ledger", f"be one of {known}, or a file or URL" if known else "be a file or URL: none is here", text
    )


def _read(path: Path, name: str) -> LedgerReport:
    ledger, now = Ledger.view(path), monotonic_ns()
    try:
        breakers = {breaker: read_snapshot(ledger, breaker, now) for breaker in ledger.names()}
        workers, events = ledger.workers(), ledger.history()
        since = None if workers else _last_used(ledger, path, breakers.values(), events, now)
        return LedgerReport(name, ledger.path, workers, ledger.programs, breakers, events, since, selector=name)
    except (ArithmeticError, IndexError, ValueError) as error:  # numbers written by this library raise none of these
        raise LedgerError(ledger.path, "is damaged") from error


def _without_idle(reports: list[LedgerReport]) -> list[LedgerReport]:
    """Mark ledgers as live that a process has mapped without having made a call so far."""
    users = writers([Path(each.path) for each in reports if each.retired])
    return [replace(each, retired_since=None) if users.get(Path(each.path)) else each for each in reports]


def _last_used(
    ledger: Ledger, path: Path, breakers: Collection[Snapshot], events: Sequence[StateChange], now: int
) -> float:
    """Return the time of the latest call or change of state, in seconds since the epoch."""
    beats = ledger.core.header[at.H_SHARD_HEARTBEATS : at.H_SHARD_HEARTBEATS + at.SHARDS].tolist()
    ago = [
        *((now - beat) / 1e9 for beat in beats if 0 < beat <= now),
        *(seen.age for seen in breakers),
        *(seen.last_failure.ago for seen in breakers if seen.last_failure),
    ]
    times = [*(wall() - each for each in ago), *(event.at for event in events if event.at <= wall())]
    return max(times, default=_modified(path))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # it was removed meanwhile
        return wall()
