"""Which blocks of a ledger this process counts in, and what becomes of those whose owner died."""

import threading
from collections import Counter, defaultdict

from . import layout as at
from .mapped import MappedFile
from .memory import Lock, Memory, ThreadLock
from .process import process_number
from .record import adopt

_AGAIN = 1_000_000_000  # nanoseconds until a process that found no free block tries them all again
_LOOK = 100_000_000  # nanoseconds between two looks for dead owners
#: free blocks of which a process takes none beyond its first: they are for processes that have none yet
RESERVED_SHARDS = 32


class Shards:
    """The blocks of one process. A forked child makes its own.

    The first is its own for life: it makes the process one of the `workers`. Any other is given back when no row has a
    tally in it any more, so that another process may claim it.
    """

    def __init__(self, storage: Memory | MappedFile) -> None:
        self._storage = storage
        self._header = storage.header
        self._mutex = threading.RLock()
        self._mine: dict[int, int] = {}  # by number
        self._rows: defaultdict[int, set[int]] = defaultdict(set)  # by number, the rows that have tallies in it
        self._lost: Counter[int] = Counter()
        self._looked: int | None = None
        self._full_at: int | None = None
        self._reserved = RESERVED_SHARDS if storage.scope == "host" else 0
        #: guards the commons of every row
        self.commons = _commons(storage)

    @property
    def mine(self) -> tuple[int, ...]:
        """The blocks that this process counts in."""
        return tuple(self._mine.values())

    def workers(self) -> int:
        """Return the number of live processes that have a block."""
        return len({owner for block, owner in self._owners() if self._storage.alive(block)})

    def get(self, number: int, now: int, row: int | None = None) -> int | None:
        """Return the number-th block of this process, claimed if it has none; None if there is none to be had.

        It stays claimed at least until the row that asks says `leave`.
        """
        with self._mutex:
            if not self._mine:
                self.bury(now)
            if number not in self._mine:
                if self._full_at is not None and abs(now - self._full_at) < _AGAIN:
                    return None
                if (block := self._claim(extra=bool(self._mine))) is None:
                    self._full_at = now
                    return None
                self._inherit(block, now)
                self._header[at.H_SHARD_OWNERS + block] = process_number()
                self._mine[number] = block
            if row is not None:
                self._rows[number].add(row)
            return self._mine[number]

    def _claim(self, *, extra: bool) -> int | None:
        if extra and at.SHARDS - len(self._owners()) <= self._reserved:
            return None
        return next((block for block in range(at.SHARDS) if self._storage.claim(block)), None)

    @property
    def complaint(self) -> str:
        """Why this process has no block."""
        return self._storage.complaint or f"all {at.SHARDS} blocks are taken"

    def leave(self, number: int, row: int) -> None:
        """Give a block back, unless another row has tallies in it: no call of this row runs there, and none will."""
        with self._mutex:
            self._rows[number].discard(row)
            if number and not self._rows[number] and number in self._mine:
                block = self._mine.pop(number)
                self._header[at.H_SHARD_OWNERS + block] = 0
                self._storage.give_up(block)

    def bury(self, now: int) -> bool:
        """Turn the running calls of dead processes into failures. Return whether it was time to look again."""
        with self._mutex:
            if self._looked is not None and abs(now - self._looked) < _LOOK:
                return False
            self._looked = now
            mine = set(self._mine.values())
            for block in self._storage.blocks:
                if block not in mine:  # an interruption came when it had just been claimed, or was being given back
                    self._storage.give_up(block)
            for block, _ in self._owners():
                if block not in mine and self._storage.claim(block):
                    self._inherit(block, now)
                    self._header[at.H_SHARD_OWNERS + block] = 0
                    self._storage.give_up(block)
            return True

    def lost(self, row: int) -> int:
        """Return how many calls of dead processes were buried in a row since this was last asked."""
        with self._mutex:
            return self._lost.pop(row, 0)

    def reset_after_fork(self) -> None:
        """Have no lock of the parent open, in a forked child, which makes blocks of its own."""
        self.commons.reset_after_fork()

    def _owners(self) -> list[tuple[int, int]]:
        owners = self._header[at.H_SHARD_OWNERS : at.H_SHARD_OWNERS + at.SHARDS].tolist()
        return [(block, owner) for block, owner in enumerate(owners) if owner]

    def _inherit(self, block: int, now: int) -> None:
        for index in range(self._header[at.H_RECORDS]):
            if calls := adopt(self._storage.row(index), block, now):
                self._lost[index] += calls


def _commons(storage: Memory | MappedFile) -> Lock:
    if storage.scope != "host":
        return ThreadLock()
    from .locks import FileLock  # not above: some systems have no such locks

    return FileLock(f"{storage.path}.locks/host-counters")
