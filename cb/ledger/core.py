"""The internals of a ledger, as records, the state machine, leaders and fleet agents use them."""

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from cb.background.event_loop import on_event_loop
from cb.background.fork import FORK_MARK, detect_fork, register_fork_reset
from cb.background.watchdog import WATCHDOG
from cb.errors import LedgerBusyError, LedgerError, LedgerFullError
from cb.events import StateChange
from cb.log import Log
from cb.states import Scope

from . import layout as at
from .degradation import Degradation
from .fleet_view import FleetView, read_fleet_view
from .history import write_transition
from .host_counters import add_for_the_last_time
from .mapped import MappedFile, map_url
from .memory import Lock, Memory
from .names import check_name
from .readonly import ReadOnlyFile
from .record import Record
from .shards import Shards

log = Log(__name__)

#: seconds to wait for the lock at the start and at the end of a call: its holder may be stopped for good
LOCK_TIMEOUT_SECONDS = 0.02
#: seconds to wait for the lock while a breaker is created or controlled
LONG_LOCK_TIMEOUT_SECONDS = 1.0
SECOND = 1_000_000_000
#: nanoseconds after which a failed attempt to share is repeated
RETRY_INTERVAL_NS = SECOND
#: nanoseconds for which H_DEGRADED_AT of another process is valid
_DEGRADED_TTL_NS = 5 * SECOND
#: nanoseconds between two checks of the file, and between two heartbeats in it
CHECK_INTERVAL_NS = SECOND // 10
_OVERWRITTEN = "was written over while it was in use"

Storage = Memory | MappedFile | ReadOnlyFile


class LedgerCore:
    """Records, shards, roles and locks of one ledger in one process.

    Args:
        storage: the cells.
        reason: why this is not the shared ledger that was asked for.
        open_again: opens the shared file; called until it succeeds.
    """

    def __init__(
        self, storage: Storage, *, reason: str | None = None, open_again: Callable[[], MappedFile] | None = None
    ) -> None:
        self._storage = storage
        #: URL and directory passed to `Ledger.open`
        self.opened_as: tuple[str, str | os.PathLike[str] | None] | None = None
        #: True once the ledger has been closed
        self.closed = False
        self._checked_at: int | None = None
        self._heartbeat_at: int | None = None
        self._making = threading.RLock()
        self._records: dict[str, Record] = {}
        self._indices: dict[str, int] = {}  # by name, of every record; extended when there are more
        #: the shards of this process
        self.shards = Shards(storage)
        self._open_again = open_again
        #: holds the breakers until the file can be opened
        self._stand_in = LedgerCore(storage, reason=reason) if open_again else None
        self._unshared: weakref.WeakValueDictionary[str, LedgerCore] = weakref.WeakValueDictionary()
        self._failed_at: int | None = None
        #: why calls are not counted and shared as configured
        self.degradation = Degradation(reason)
        register_fork_reset(self)

    def __repr__(self) -> str:
        return f"<LedgerCore {self.path}>"

    @property
    def scope(self) -> Scope:
        """HOST if other processes share this ledger, else PROCESS."""
        return self._storage.scope

    @property
    def path(self) -> str:
        """The file, or `memory`."""
        return self._storage.path

    @property
    def read_only(self) -> bool:
        """True if this process only reads the file."""
        return isinstance(self._storage, ReadOnlyFile)

    @property
    def header(self) -> memoryview:
        """The cells that belong to no breaker."""
        return self._storage.header

    @property
    def lock(self) -> Lock:
        """The lock for changes of state, of thresholds and of the list of records."""
        self.follow_user()
        return self._storage.lock

    @property
    def host_counters_lock(self) -> Lock:
        """The lock for the HOST_COUNTERS of all records."""
        return self.shards.host_counters_lock

    # Degradation

    @property
    def degraded(self) -> str | None:
        """Reason why breakers are not shared or counted as configured; None if they are."""
        if not self._unshared:
            return self.reason
        return "; ".join(reason for reason in (self.reason, self.degradation.unshared) if reason) or None

    @property
    def reason(self) -> str | None:
        """Reason that concerns all breakers in this ledger, None without any."""
        return self.degradation.text if self.degradation.reasons else None

    def degraded_on_host(self, now: int) -> bool:
        """Return True if this process is degraded, or another process of the host was a few seconds ago."""
        return (
            self.degraded is not None or 0 < (noted := self.header[at.H_DEGRADED_AT]) <= now < noted + _DEGRADED_TTL_NS
        )

    def report(self) -> None:
        """Log once that the ledger is degraded, and once that it no longer is. The caller holds no lock."""
        if (degraded := self.degraded) != self.degradation.reported:
            self.degradation.report(degraded)

    # Records

    def names(self) -> list[str]:
        """Return the names of all breakers, in the order of their creation."""
        for index in range(len(self._indices), self._storage.header[at.H_RECORDS]):
            self._indices.setdefault(self.name(index), index)
        return list(self._indices)

    def name(self, index: int) -> str:
        """Return the name in a record."""
        return at.get_text(self._storage.record(index), at.NAME, at.NAME_CELLS)

    def record(self, name: str, now: int) -> Record:
        """Return the record of a breaker, created if there is none. Raises ConfigError for an invalid name.

        Without room, memory or the lock for a new one, it is a record of a ledger of this process alone, for a while.
        """
        self.follow_user()
        check_name(name)
        if name not in self._records and not self._stand_in and (busy := self._failure(now)) and on_event_loop():
            return self._unshared_record(name, now, busy)  # a thread may have _making, and wait for the file
        with self._making:
            if name in self._records:
                return self._records[name]
            if self._stand_in:
                return self._stand_in.record(name, now)
            try:
                index = self._index(name)
                index = self._create(name, now) if index is None else index
                self._records[name] = Record(index, self._storage.record(index), self)
            except (LedgerBusyError, LedgerFullError) as error:
                return self._unshared_record(name, now, error)
            self._unshared.pop(name, None)
            return self._records[name]

    def retry_open(self, now: int) -> None:
        """Try to open the file that could not be opened, at most once a second. Counts made meanwhile are dropped."""
        open_again = self._open_again
        if open_again and (self._failed_at is None or abs(now - self._failed_at) >= RETRY_INTERVAL_NS):
            self._failed_at = now  # first: no other thread tries meanwhile
            try:
                storage = open_again()
            except (LedgerError, OSError) as error:
                self.degradation.reason = str(error)
                return
            with self._making:
                self._storage, self.shards, self._indices = storage, Shards(storage, self.shards.program), {}
                self._open_again = self._stand_in = self.degradation.reason = self._failed_at = None

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a record its memory. Raises LedgerFullError."""
        self._storage.allocate(index, page)

    def log(self, index: int, change: StateChange, wall: int) -> StateChange:
        """Append to the history of transitions, and return the change with number and time. The caller holds `lock`."""
        return write_transition(self._storage.header, index, change, wall)

    def _index(self, name: str) -> int | None:
        if name not in self._indices:
            self.names()
        return self._indices.get(name)

    def _create(self, name: str, now: int) -> int:
        self._require_room(name)
        # Only the first failure waits long: a service creates many breakers when it starts.
        if busy := self._failure(now):
            raise busy
        timeout = LONG_LOCK_TIMEOUT_SECONDS if self._failed_at is None else LOCK_TIMEOUT_SECONDS
        self._failed_at = now
        index = self.lock.run(partial(self._find_locked, name, now), timeout)
        self._failed_at = None
        return index

    def _failure(self, now: int) -> LedgerBusyError | None:
        lately = self._failed_at is not None and abs(now - self._failed_at) < RETRY_INTERVAL_NS
        return LedgerBusyError(self._storage.path, "could not be changed a moment ago") if lately else None

    def _require_room(self, name: str) -> None:
        if self._storage.header[at.H_RECORDS] >= at.MAX_RECORDS:
            raise LedgerFullError(self._storage.path, f"holds {at.MAX_RECORDS} breakers, no room for {name!r}")

    def _find_locked(self, name: str, now: int) -> int:
        header = self._storage.header
        if (index := self._index(name)) is not None:
            return index
        self._require_room(name)
        index = header[at.H_RECORDS]
        self._storage.allocate(index, 0)
        self._initialize_locked(index, name, now)
        header[at.H_RECORDS] = index + 1  # last: a record that is listed is complete
        return index

    def _initialize_locked(self, index: int, name: str, now: int) -> None:
        head = self._storage.record(index)
        head[at.ORIGIN] = head[at.SINCE] = max(now, 1)
        head[at.SLICE] = 1  # until the configuration is written
        head[at.WORD] = 1 << 16
        at.put_text(head, at.NAME, at.NAME_CELLS, name)

    def _unshared_record(self, name: str, now: int, error: LedgerError) -> Record:
        self._storage.header[at.H_DEGRADED_AT] = max(now, 1)
        core = self._unshared.get(name)
        if core is None:
            if not self._unshared:
                self.degradation.unshared = str(error)
            core = self._unshared[name] = LedgerCore(Memory(), reason=str(error))
        return core.record(name, now)

    # Fleet

    def fleet(self, now: int) -> FleetView | None:
        """Return the host's connection to its fleet at a time, None if it has never joined one."""
        heads = ((name, self._storage.record(index)) for index, name in enumerate(self.names()))
        return read_fleet_view(self._storage.header, heads, now)

    def fleet_lease_until(self) -> int:
        """Return the time until which the fleet controls the circuits of this host, 0 without a fleet."""
        return int(self._storage.header[at.H_FLEET_LEASE_UNTIL])

    def wake_agent(self) -> None:
        """Have the host's agent synchronize with the fleet at once."""
        self._storage.header[at.H_WAKE_AGENT] = 1

    def join_fleet(self) -> int:
        """Return the number of this host in its fleet, drawn at the first call. Raises LedgerBusyError."""
        return self.lock.run(self._join_fleet_locked, LONG_LOCK_TIMEOUT_SECONDS)

    def _join_fleet_locked(self) -> int:
        header = self._storage.header
        header[at.H_HOST] = header[at.H_HOST] or int.from_bytes(os.urandom(8)) >> 2 | 1
        return int(header[at.H_HOST])

    @property
    def in_fleet(self) -> bool:
        """True if this host has joined a fleet since the ledger was created."""
        return self._storage.header[at.H_HOST] != 0

    # Roles and shards

    def elect(self, role: str) -> bool:
        """Take a role, which one process of the host holds until it ends or resigns. Return False if it is taken."""
        self.follow_user()
        return self._storage.elect(role)

    def has(self, role: str) -> bool:
        """Return True if this process holds the role."""
        return self._storage.has(role)

    def resign(self, role: str) -> None:
        """Give the role up."""
        self._storage.resign(role)

    def join(self, now: int) -> None:
        """Take the first shard and start the watchdog, before the first call."""
        self.shard(0, now)
        self.shards.report_programs_once(now)
        WATCHDOG.start()

    def workers(self) -> int:
        """Return the number of live processes that own a shard."""
        return self.shards.workers()

    def shard(self, number: int, now: int, index: int | None = None) -> int | None:
        """Return the number-th shard of this process, claimed if it has none; None if none is free.

        A record that passes its index keeps the shard until it calls `leave_shard`.
        """
        self.follow_user()
        return self.shards.get(number, now, index)

    @property
    def shard_fault(self) -> str:
        """Reason why this process has no shard."""
        return self.shards.fault

    def leave_shard(self, number: int, index: int) -> None:
        """Give a shard up, unless another record counts in it."""
        self.shards.leave(number, index)

    def reaped(self, record: Record) -> list[str]:
        """Return the process id of each call of a dead process that became a failure here since the last time."""
        return self.shards.reaped(record.index)

    # Supervision of the file

    def reap(self, now: int) -> None:
        """Check the file, and turn the running calls of dead processes into failures; at most ten times a second."""
        self._check_file(now)
        self.shards.reap(now)
        if self.degraded:
            self._storage.header[at.H_DEGRADED_AT] = now

    def _check_file(self, now: int) -> None:
        """Detect changes that others have made to the file and its locks, at most ten times a second."""
        self.follow_user()
        if self._checked_at is not None and abs(now - self._checked_at) < CHECK_INTERVAL_NS:
            return
        self._checked_at = now
        if truncated := self._storage.truncated():
            self.detach(truncated, now)
            return
        intact = (kept := self._keep_shards()) and self._intact()
        if kept and not intact:  # another process may have had a shard for a moment, and have written to it
            intact = (kept := self._keep_shards()) and self._intact()
        if not kept:
            self._restart()
            self._storage.give_up_all()
            log.error("%s: another process has taken a shard of this one; its calls were not counted", self.path)
        elif not intact:
            self.detach(_OVERWRITTEN, now)
        elif self.degradation.reason is None and self._storage.replaced():
            self.degradation.reason = f"{self.path} was removed or replaced: processes that start now do not share it"

    def _keep_shards(self) -> bool:
        kept, relocked = self._storage.keep_locks()
        for record in list(self._records.values()) if relocked else ():
            record.reload_counters()
        return kept

    def _intact(self) -> bool:
        records = list(self._records.values())
        return self._storage.intact(self.shards.mine) and all(record.intact() for record in records)

    def heartbeat(self, now: int) -> None:
        """Note that this process counts calls, at most ten times a second. A restored older copy lacks the note."""
        if self._heartbeat_at is None or abs(now - self._heartbeat_at) >= CHECK_INTERVAL_NS:
            self._heartbeat_at = now
            self._storage.heartbeat(now, self.shards.mine)

    def check(self, record: Record, now: int, *, valid: bool = True) -> None:
        """Detach from the file if a record is invalid, or if the caller found it so: others have written over it."""
        if not (valid and record.valid):
            self.detach(_OVERWRITTEN, now)

    def detach(self, reason: str, now: int) -> None:
        """Go on in memory of this process, with empty windows, as if the file had been unusable from the start."""
        with self._making:
            reason = f"ledger {self.path}: {reason}"
            if not isinstance(self._storage, MappedFile) or self.degradation.reason == reason:
                return
            self.degradation.reason = reason
            self._detach_locked(now)
        self.report()

    def _detach_locked(self, now: int) -> None:
        assert isinstance(self._storage, MappedFile)
        with suppress(OSError):  # if memory cannot be remapped, this process goes on with the mapping as it is
            self._storage = self._storage.detach()
            indices = {name: record.index for name, record in self._records.items()} | self._indices
            for name, index in indices.items():
                self._initialize_locked(index, name, now)
                self.header[at.H_RECORDS] = max(self.header[at.H_RECORDS], index + 1)
            self._restart()

    def close(self, now: int) -> None:
        """Give up file, shards and roles. Breakers that still exist go on in memory of this process."""
        add_for_the_last_time([record.host_counters for record in list(self._records.values())], now)
        with self._making:
            self.closed = True
            self._open_again = None
            if isinstance(self._storage, MappedFile):
                self._detach_locked(now)

    # Changes of the process

    def follow_user(self) -> None:
        """Open the ledger of the user that this process has changed to since it opened the file, before first use."""
        if not FORK_MARK[0]:
            detect_fork()
        if self._storage.of_another_user:
            with self._making:
                if self._storage.of_another_user:
                    self._change_user()

    def _change_user(self) -> None:
        old, indices, now = self._storage, self._indices, 1
        assert isinstance(old, MappedFile)
        try:
            self._storage, self._indices = new, _ = map_url(*self.opened_as or (f"file://{old.path}", None)), {}
            moves: list[tuple[Record, int]] = []
            for name, record in self._records.items():
                now = max(now, record.head[at.SINCE])
                index = self._index(name)
                if index is None:
                    index = new.lock.run(partial(self._find_locked, name, now), LONG_LOCK_TIMEOUT_SECONDS)
                moves.append((record, index))
            for record, index in moves:
                new.put_under(old.record(record.index), index)
            new.put_header_under(old.header)
        except (LedgerError, OSError) as error:
            self._storage, self._indices = old, indices
            self.detach(error.reason if isinstance(error, LedgerError) else str(error), now)
            return
        for record, index in moves:
            record.index = index
            record.remaps += 1
        old.close()
        self._restart()

    def _restart(self) -> None:
        self.shards = Shards(self._storage, self.shards.program)
        self.degradation.forget_records()
        for record in self._records.values():
            record.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start over in a forked child, as a process that has counted nothing."""
        self._making = threading.RLock()
        self._storage.reset_after_fork()
        self.shards.reset_after_fork()
        self._restart()
