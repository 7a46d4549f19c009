"""Shards of a ledger: those that this process counts in, and the search for those whose owner died."""

import os
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

from cb.background.event_loop import on_event_loop
from cb.states import Scope

from . import layout as at
from .dead_workers import adopt
from .last_failure import Worker
from .memory import Lock, ThreadLock

if TYPE_CHECKING:
    from .core import Storage
    from .programs import OtherPrograms

#: nanoseconds until a process that found no free shard tries them all again
_RETRY_INTERVAL_NS = 1_000_000_000
#: nanoseconds between two searches for dead owners
_REAP_INTERVAL_NS = 100_000_000
#: free shards of which a process takes none beyond its first: they are reserved for processes that have none yet
RESERVED_SHARDS = 32


class Shards:
    """The shards of one process. A forked child creates its own.

    The first one is kept for life: it makes the process one of the `workers`. Any other is given up when no record
    counts in it any more, so that another process may claim it.
    """

    def __init__(self, storage: "Storage", program: str = "") -> None:
        self._storage = storage
        self._header = storage.header
        #: name of the program that this process runs, empty if unknown; set it before the first shard is claimed
        self.program = program
        self._others: OtherPrograms | None = None
        self._mutex = threading.RLock()
        self._mine: dict[int, int] = {}  # by number
        self._records: defaultdict[int, set[int]] = defaultdict(set)  # by number, the records that count in it
        self._reaped: defaultdict[int, list[str]] = defaultdict(list)  # by record, the process id for each reaped call
        self._reaped_at: int | None = None
        self._full_at: int | None = None
        #: True while the counters of a dead process are adopted, in every record
        self._reaping = False
        self._reserved = RESERVED_SHARDS if storage.scope is Scope.HOST else 0
        #: guards the HOST_COUNTERS of every record
        self.host_counters_lock = self._host_counters_lock()

    def __repr__(self) -> str:
        return f"<Shards {', '.join(map(str, self.mine)) or 'none'} of {self._storage.path}>"

    def _host_counters_lock(self) -> Lock:
        if self._storage.scope is not Scope.HOST:
            return ThreadLock()
        from .locks import FileLock  # not above: some systems have no such locks

        return FileLock(f"{self._storage.path}.locks/host-counters")

    @property
    def mine(self) -> tuple[int, ...]:
        """The shards that this process counts in."""
        return tuple(self._mine.values())

    def workers(self) -> int:
        """Return the number of live processes that own a shard."""
        return len({owner for shard, owner in self._owners() if self._storage.alive(shard)})

    def programs(self) -> dict[str, int]:
        """Return the programs that have live workers, each with the process id of one of them."""
        found: dict[str, int] = {}
        for shard, owner in self._owners():
            name = self._program_of(shard)
            # Read again: the shard may have got another owner meanwhile.
            if name and name not in found and self._storage.alive(shard) and name == self._program_of(shard):
                found[name] = process_id(owner)
        return found

    def _program_of(self, shard: int) -> str:
        return at.get_text(self._header, at.H_PROGRAMS + shard * at.PROGRAM_CELLS, at.PROGRAM_CELLS)

    @property
    def beside_others(self) -> bool:
        """True if `report_programs` has found a program with other code."""
        return self._others is not None and bool(self._others.names)

    def report_programs(self, now: int) -> None:
        """Log programs with other code that share the ledger, each once. The caller holds no lock."""
        if not (self._mine and self.program):
            return
        if self._others is None:
            from .programs import OtherPrograms  # not above: only a file has other programs; it has loaded this

            self._others = OtherPrograms(self._storage.path, self.program)
        if self._others.due(now):
            self._others.report(self.programs())

    def report_programs_once(self, now: int) -> None:
        """Do the same for a process that has just joined: it may have ended before the first tick."""
        if self._others is None:
            self.report_programs(now)

    def get(self, number: int, now: int, index: int | None = None) -> int | None:
        """Return the number-th shard of this process, claimed if it has none; None if none is free.

        It stays claimed at least until the record that passed its index calls `leave`. On an event loop there is none
        beyond the first while another thread looks for dead processes.
        """
        if number and self._reaping and on_event_loop():
            return None
        with self._mutex:
            if not self._mine:
                self.reap(now)
            if number not in self._mine:
                if self._full_at is not None and abs(now - self._full_at) < _RETRY_INTERVAL_NS:
                    return None
                if (shard := self._claim(extra=bool(self._mine))) is None:
                    self._full_at = now
                    return None
                self._adopt(shard, now, self._header[at.H_SHARD_OWNERS + shard])
                self._header[at.H_SHARD_OWNERS + shard] = 0  # readers do not take the program for another owner's
                at.put_text(self._header, at.H_PROGRAMS + shard * at.PROGRAM_CELLS, at.PROGRAM_CELLS, self.program)
                self._header[at.H_SHARD_OWNERS + shard] = process_number()
                self._mine[number] = shard
            if index is not None:
                self._records[number].add(index)
            return self._mine[number]

    def _claim(self, *, extra: bool) -> int | None:
        if extra and at.SHARDS - len(self._owners()) <= self._reserved:
            return None
        return next((shard for shard in range(at.SHARDS) if self._storage.claim(shard)), None)

    @property
    def fault(self) -> str:
        """Reason why this process has no shard."""
        return self._storage.fault or f"all {at.SHARDS} shards are taken"

    def leave(self, number: int, index: int) -> None:
        """Give a shard up, unless another record counts in it. No call of this record runs there, and none will."""
        with self._mutex:
            self._records[number].discard(index)
            if number and not self._records[number] and number in self._mine:
                shard = self._mine.pop(number)
                self._header[at.H_SHARD_OWNERS + shard] = 0
                self._storage.give_up(shard)

    def reap(self, now: int) -> None:
        """Turn the running calls of dead processes into failures; at most ten times a second."""
        with self._mutex:
            if self._reaped_at is not None and abs(now - self._reaped_at) < _REAP_INTERVAL_NS:
                return
            self._reaped_at = now
            mine = set(self._mine.values())
            for shard in self._storage.locked_shards:
                if shard not in mine:  # an interruption came when it had just been claimed, or was being given up
                    self._storage.give_up(shard)
            for shard, owner in self._owners():
                if shard not in mine and self._storage.claim(shard):
                    self._reaping = True
                    try:
                        self._adopt(shard, now, owner)
                    finally:
                        self._reaping = False
                    self._header[at.H_SHARD_OWNERS + shard] = 0
                    self._storage.give_up(shard)

    def reaped(self, index: int) -> list[str]:
        """Return the process ids of the dead processes whose calls became failures in a record since the last time."""
        with self._mutex:
            return self._reaped.pop(index, [])

    def reset_after_fork(self) -> None:
        """Drop the parent's lock, in a forked child."""
        self.host_counters_lock.reset_after_fork()

    def _owners(self) -> list[tuple[int, int]]:
        owners = self._header[at.H_SHARD_OWNERS : at.H_SHARD_OWNERS + at.SHARDS].tolist()
        return [(shard, owner) for shard, owner in enumerate(owners) if owner]

    def _adopt(self, shard: int, now: int, owner: int) -> None:
        for index in range(self._header[at.H_RECORDS]):
            if calls := adopt(self._storage.record(index), shard, now, owner):
                self._reaped[index] += [str(Worker(owner))] * calls


def process_id(number: int) -> int:
    """Return the process id in a `process_number`."""
    return number & 0xFFFF_FFFF


def process_number() -> int:
    """Return a number that no other living process of this host has, in any container.

    A process id alone is not unique: each PID namespace has its own.
    """
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - the import of pathlib takes long
    except OSError:  # a system without namespaces, or without /proc
        namespace = 0
    return (namespace & 0x7FFF_FFFF) << 32 | os.getpid()
