"""The shared state of all breakers of a process or a host."""

import os
import secrets
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from cb.background.fork import detect_fork, register_fork_reset
from cb.background.watchdog import WATCHDOG
from cb.errors import LedgerBusyError, LedgerError, LedgerFullError
from cb.events import StateChange
from cb.handles import Handle
from cb.log import Log

from . import layout as at
from .degradation import Degradation
from .fleet_view import FleetView, read_fleet_view
from .history import read_transitions, write_transition
from .mapped import MappedFile, map_url
from .memory import Lock, Memory
from .names import check_name
from .paths import shared_directory
from .readonly import ViewedFile
from .record import Record
from .shards import Shards

log = Log(__name__)

#: seconds that a call waits, when it begins and when it ends, for a lock whose holder may be stopped for good
LOCK_TIMEOUT_SECONDS = 0.02
#: seconds that whoever makes or steers a breaker waits for it
LONG_LOCK_TIMEOUT_SECONDS = 1.0
SECOND = 1_000_000_000
#: nanoseconds until what could not be shared is tried again
AGAIN = SECOND
#: nanoseconds for which the host believes a process that says that it does not count
_BELIEVED = 5 * SECOND
_OVERWRITTEN = "was written over while it was in use"
#: nanoseconds between two looks at the file, and between two marks in it
CHECK_INTERVAL_NS = SECOND // 10


class Ledger(Handle):
    """A table of breakers. `layout` describes its cells.

    Make one with `in_memory`, `in_file` or `open`. It lives as long as the process.
    """

    def __init__(
        self,
        storage: Memory | MappedFile,
        *,
        reason: str | None = None,
        open_again: Callable[[], MappedFile] | None = None,
    ) -> None:
        self._storage = storage
        #: what `open` was asked for
        self._asked: tuple[str, str | os.PathLike[str] | None] | None = None
        self._checked: int | None = None
        self._marked: int | None = None
        self._making = threading.RLock()
        self._rows: dict[str, Record] = {}
        self._names: dict[str, int] = {}  # of all rows, each with its number; extended when there are more
        self._blocks = Shards(storage)
        self._open_again = open_again
        #: holds the breakers until the file can be opened
        self._stand_in = Ledger(storage, reason=reason) if open_again else None
        self._apart: weakref.WeakValueDictionary[str, Ledger] = weakref.WeakValueDictionary()
        self._failed_at: int | None = None
        #: where a row notes why its calls are not counted as they should be
        self.troubles = Degradation(reason)
        register_fork_reset(self)

    @classmethod
    def in_memory(cls) -> Self:
        """Return a ledger of this process alone."""
        return cls(Memory())

    @classmethod
    def in_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the ledger in a file, shared by all processes that name it. Raises LedgerError."""
        return cls(MappedFile(os.path.abspath(path)))

    @classmethod
    def view(cls, path: str | os.PathLike[str]) -> Self:
        """Return the ledger in a file for a process that only looks: it makes nothing. Raises LedgerError."""
        return cls(ViewedFile(os.path.abspath(path)))

    @classmethod
    def open(cls, url: str, directory: str | os.PathLike[str] | None = None) -> Self:
        """Return the ledger that a URL names: `memory://`, `file:///path` or `shm://NAME`.

        `shm://NAME` is the file NAME.v3.ledger in `directory`, else in $CB_STATE_DIR, systemd's $RUNTIME_DIRECTORY, or
        a directory of this user in shared memory. A file that cannot be used costs sharing, not the service: the ledger
        is then of this process alone, says so in the log and in `degraded`, and tries again: breakers go over to the
        file as soon as it can be used. Raises ConfigError for any other URL.
        """
        if url == "memory://":
            return cls.in_memory()
        if directory is not None and Path(directory) == shared_directory():
            directory = None  # that of another user, should this process become that
        open_file = partial(map_url, url, directory)
        try:
            ledger = cls(open_file())
        except (LedgerError, OSError) as error:
            ledger = cls(Memory(), reason=str(error), open_again=open_file)
            ledger.report()
        ledger._asked = url, directory
        return ledger

    def _origin(self) -> tuple[Any, ...]:
        if self._storage.scope == "process":
            return (Ledger.in_memory,)
        looks = isinstance(self._storage, ViewedFile)
        return (Ledger.view, self.path) if looks else (Ledger.open, f"file://{self.path}")

    @property
    def degraded(self) -> str | None:
        """Why the breakers are not shared and counted as was asked for; None if they are."""
        apart = self.troubles.apart if self._apart else None
        return "; ".join(reason for reason in (self.trouble, apart) if reason) or None

    @property
    def trouble(self) -> str | None:
        """Why all breakers that lie here are not shared and counted as they should be; None if they are."""
        return self.troubles.text

    def degraded_on_host(self, now: int) -> bool:
        """Return whether this process, or lately another one of the host, is degraded."""
        return self.degraded is not None or 0 < (said := self.header[at.H_DEGRADED_AT]) <= now < said + _BELIEVED

    def report(self) -> None:
        """Log once that the ledger is degraded, and once that it no longer is. Caller holds no lock."""
        self.troubles.report(self.degraded)

    @property
    def scope(self) -> str:
        """`host` if other processes see this ledger, else `process`."""
        return self._storage.scope

    @property
    def path(self) -> str:
        """The file, or `memory`."""
        return self._storage.path

    @property
    def lock(self) -> Lock:
        """The lock under which circuits change their state."""
        self._settle()
        return self._storage.lock

    def workers(self) -> int:
        """Return the number of live processes that count calls in this ledger."""
        return self._blocks.workers()

    @property
    def commons(self) -> Lock:
        """The lock under which the commons of all rows are written."""
        return self._blocks.commons

    def join(self, now: int) -> None:
        """Become one of the `workers` before the first call, and begin to look after the breakers."""
        self.block(0, now)
        WATCHDOG.start()

    def names(self) -> list[str]:
        """Return the names of all breakers, in the order in which they were made."""
        for index in range(len(self._names), self._storage.header[at.H_RECORDS]):
            self._names.setdefault(self._name(index), index)
        return list(self._names)

    def _index(self, name: str) -> int | None:
        if name not in self._names:
            self.names()
        return self._names.get(name)

    def _name(self, index: int) -> str:
        return at.get_text(self._storage.row(index), at.NAME, at.NAME_CELLS)

    def history(self, since: int = 0) -> list[StateChange]:
        """Return the latest transitions of all breakers, at most 200, oldest first, those after number `since`."""
        return read_transitions(self._storage.header, self._name, since)

    def row(self, name: str, now: int) -> Record:
        """Return the row of a breaker, made if there is none. Raises ConfigError for a name that does not fit.

        Where it cannot be made, because there is no room, no memory, or the lock cannot be had, it is a row of another
        ledger, which this process has to itself; to ask again later may give one of this ledger.
        """
        self._settle()
        check_name(name)
        with self._making:
            if name in self._rows:
                return self._rows[name]
            if self._stand_in:
                return self._stand_in.row(name, now)
            try:
                index = self._index(name)
                self._rows[name] = self._make(name, now) if index is None else self._row_at(index)
            except (LedgerBusyError, LedgerFullError) as error:
                return self._row_apart(name, now, error)
            self._apart.pop(name, None)
            return self._rows[name]

    def retry(self, now: int) -> None:
        """Open the file that could not be opened at first, from time to time. What was counted meanwhile is dropped."""
        open_again = self._open_again
        if open_again and (self._failed_at is None or abs(now - self._failed_at) >= AGAIN):
            self._failed_at = now  # first: no other thread tries meanwhile
            try:
                storage = open_again()
            except (LedgerError, OSError) as error:
                self.troubles.reason = str(error)
                return
            with self._making:
                self._storage, self._blocks, self._names = storage, Shards(storage), {}
                self._open_again = self._stand_in = self.troubles.reason = self._failed_at = None

    def _row_at(self, index: int) -> Record:
        return Record(index, self._storage.row(index), self)

    def _make(self, name: str, now: int) -> Record:
        header = self._storage.header
        if header[at.H_RECORDS] >= at.MAX_RECORDS:
            raise LedgerFullError(self._storage.path, f"holds {at.MAX_RECORDS} breakers, no room for {name!r}")
        # Only the first that fails waits for long: a service makes many breakers when it starts.
        if self._failed_at is not None and abs(now - self._failed_at) < AGAIN:
            raise LedgerBusyError(self._storage.path, "could not be changed a moment ago")
        patience = LONG_LOCK_TIMEOUT_SECONDS if self._failed_at is None else LOCK_TIMEOUT_SECONDS
        self._failed_at = now
        index = self.lock.run(partial(self._find_locked, name, now), patience)
        self._failed_at = None
        return self._row_at(index)

    def _row_apart(self, name: str, now: int, error: LedgerError) -> Record:
        self._storage.header[at.H_DEGRADED_AT] = max(now, 1)
        ledger = self._apart.get(name)
        if ledger is None:
            if not self._apart:
                self.troubles.apart = str(error)
            ledger = self._apart[name] = Ledger(Memory(), reason=str(error))
        return ledger.row(name, now)

    def _find_locked(self, name: str, now: int) -> int:
        header = self._storage.header
        if (index := self._index(name)) is not None:
            return index
        index = header[at.H_RECORDS]
        if index >= at.MAX_RECORDS:
            raise LedgerFullError(self._storage.path, f"holds {at.MAX_RECORDS} breakers, no room for {name!r}")
        self._storage.allocate(index, 0)
        self._begin_locked(index, name, now)
        header[at.H_RECORDS] = index + 1  # last: a row that counts is complete
        return index

    def _begin_locked(self, index: int, name: str, now: int) -> None:
        head = self._storage.row(index)
        head[at.ORIGIN] = head[at.SINCE] = max(now, 1)
        head[at.SLICE] = 1  # until the configuration is written
        head[at.WORD] = 1 << 16
        at.put_text(head, at.NAME, at.NAME_CELLS, name)

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a row its memory. Raises LedgerFullError."""
        self._storage.allocate(index, page)

    def log(self, index: int, change: StateChange, wall: int) -> StateChange:
        """Append to the log of transitions. Caller holds `lock`."""
        return write_transition(self._storage.header, index, change, wall)

    def fleet_lease_until(self) -> int:
        """Return until when a fleet leads the circuits of this host, 0 if there is none."""
        return int(self._storage.header[at.H_FLEET_LEASE_UNTIL])

    def wake_agent(self) -> None:
        """Tell the host's agent that there is something to do."""
        self._storage.header[at.H_WAKE_AGENT] = 1

    def join_fleet(self) -> int:
        """Return the number of this host in its fleet, chosen when it is first asked for. Raises LedgerBusyError."""
        return self.lock.run(self._join_fleet_locked, LONG_LOCK_TIMEOUT_SECONDS)

    def _join_fleet_locked(self) -> int:
        header = self._storage.header
        header[at.H_HOST] = header[at.H_HOST] or secrets.randbits(62) | 1
        return int(header[at.H_HOST])

    @property
    def in_fleet(self) -> bool:
        """Whether this host has belonged to a fleet since the ledger was made."""
        return self._storage.header[at.H_HOST] != 0

    def fleet(self, now: int) -> FleetView | None:
        """Return the state of this host's fleet, None if the host has never joined one."""
        heads = ((name, self._storage.row(index)) for index, name in enumerate(self.names()))
        return read_fleet_view(self._storage.header, heads, now)

    @property
    def header(self) -> memoryview:
        """The cells that belong to no breaker."""
        return self._storage.header

    def elect(self, role: str) -> bool:
        """Take a role, which one process of a host has until it ends or resigns. Return False if one has it already."""
        self._settle()
        return self._storage.elect(role)

    def has(self, role: str) -> bool:
        """Return whether this process has a role."""
        return self._storage.has(role)

    def resign(self, role: str) -> None:
        """Leave the role to another process."""
        self._storage.resign(role)

    def block(self, number: int, now: int, row: int | None = None) -> int | None:
        """Return the number-th block of this process, claimed if it has none; None if there are no more."""
        self._settle()
        return self._blocks.get(number, now, row)

    @property
    def complaint(self) -> str:
        """Why this process has no block."""
        return self._blocks.complaint

    def leave(self, number: int, row: int) -> None:
        """Give a block back, unless another row has tallies in it."""
        self._blocks.leave(number, row)

    def bury(self, now: int) -> None:
        """Turn the running calls of dead processes into failures. Looks at most ten times a second."""
        self._check(now)
        self._blocks.bury(now)
        if self.degraded:
            self._storage.header[at.H_DEGRADED_AT] = now

    def _check(self, now: int) -> None:
        """Find out what others have done to the file and its locks, ten times a second at most."""
        self._settle()
        if self._checked is not None and abs(now - self._checked) < CHECK_INTERVAL_NS:
            return
        self._checked = now
        if cut := self._storage.cut():
            self._leave(cut, now)
            return
        as_left = (kept := self._keep()) and self._as_left()
        if kept and not as_left:  # another process may just have had a block, and have written to that
            as_left = (kept := self._keep()) and self._as_left()
        if not kept:
            self._start_over()
            self._storage.give_up_all()
            log.error("%s: another process has taken a block of this one, whose calls are not counted", self.path)
        elif not as_left:
            self._leave(_OVERWRITTEN, now)
        elif self.troubles.reason is None and self._storage.replaced():
            self.troubles.reason = f"{self.path} was removed or replaced: processes that start now do not share it"

    def _keep(self) -> bool:
        kept, again = self._storage.keep()
        for row in list(self._rows.values()) if again else ():
            row.reload_counters()
        return kept

    def _as_left(self) -> bool:
        return self._storage.as_left(self._blocks.mine) and all(row.as_left() for row in list(self._rows.values()))

    def mark(self, now: int) -> None:
        """Note that calls are counted, ten times a second at most: that tells this ledger from an older copy of it."""
        if self._marked is None or abs(now - self._marked) >= CHECK_INTERVAL_NS:
            self._marked = now
            self._storage.mark(now, self._blocks.mine)

    def check(self, row: Record, now: int, *, sane: bool = True) -> None:
        """Go on in memory of this process if a row makes no sense, or is said not to: others have written over it."""
        if not (sane and row.sane):
            self._leave(_OVERWRITTEN, now)

    def _leave(self, reason: str, now: int) -> None:
        """Go on in memory of this process, with empty windows, as if the file had not been usable from the start."""
        with self._making:
            reason = f"ledger {self.path}: {reason}"
            if not isinstance(self._storage, MappedFile) or self.troubles.reason == reason:
                return
            self.troubles.reason = reason
            with suppress(OSError):  # where memory cannot be moved, this process goes on with what it finds
                self._storage = self._storage.leave()
                for name, index in ({name: row.index for name, row in self._rows.items()} | self._names).items():
                    self._begin_locked(index, name, now)
                    self.header[at.H_RECORDS] = max(self.header[at.H_RECORDS], index + 1)
                self._start_over()
        self.report()

    def _settle(self) -> None:
        """Take the ledger of the user that this process has become since it was opened, before the first use."""
        detect_fork()
        if self._storage.foreign:
            with self._making:
                if self._storage.foreign:
                    self._move()

    def _move(self) -> None:
        old, names, now = self._storage, self._names, 1
        assert isinstance(old, MappedFile)
        try:
            self._storage, self._names = new, _ = map_url(*self._asked or (f"file://{old.path}", None)), {}
            places: list[tuple[Record, int]] = []
            for name, row in self._rows.items():
                now = max(now, row.head[at.SINCE])
                index = self._index(name)
                if index is None:
                    index = new.lock.run(partial(self._find_locked, name, now), LONG_LOCK_TIMEOUT_SECONDS)
                places.append((row, index))
            for row, index in places:
                new.put_under(old.row(row.index), index)
            new.put_header_under(old.header)
        except (LedgerError, OSError) as error:
            self._storage, self._names = old, names
            self._leave(error.reason if isinstance(error, LedgerError) else str(error), now)
            return
        for row, index in places:
            row.index = index
            row.remaps += 1
        old.close()
        self._start_over()

    def _start_over(self) -> None:
        self._blocks = Shards(self._storage)
        self.troubles.forget_rows()
        for row in self._rows.values():
            row.reset_after_fork()

    def lost(self, row: Record) -> int:
        """Return how many calls of dead processes were buried here since this was last asked."""
        return self._blocks.lost(row.index)

    def reset_after_fork(self) -> None:
        """Start over in a forked child, as a process that counts nothing yet."""
        self._making = threading.RLock()
        self._storage.reset_after_fork()
        self._blocks.reset_after_fork()
        self._start_over()
