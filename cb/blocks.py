"""Which blocks of a ledger this process counts in, and what becomes of those whose owner died."""

import os
import threading
from collections import Counter

from . import layout as at
from .mappedfile import MappedFile
from .row import inherit
from .storage import Memory

_AGAIN = 1_000_000_000  # nanoseconds until a process that found no free block tries them all again
_LOOK = 100_000_000  # nanoseconds between two looks for dead owners


class Blocks:
    """The blocks of one process. A forked child makes its own."""

    def __init__(self, storage: Memory | MappedFile) -> None:
        self._storage = storage
        self._header = storage.header
        self._mutex = threading.RLock()
        self._mine: list[int] = []
        self._lost: Counter[int] = Counter()
        self._looked: int | None = None
        self._full_at: int | None = None

    @property
    def mine(self) -> tuple[int, ...]:
        """The blocks that this process counts in."""
        return tuple(self._mine)

    def workers(self) -> int:
        """Return the number of live processes that have a block."""
        return len({owner for block, owner in self._owners() if self._storage.alive(block)})

    def get(self, number: int, now: int) -> int | None:
        """Return the number-th block of this process, claimed if it has fewer; None if there are no more."""
        with self._mutex:
            if not self._mine:
                self.bury(now)
            while len(self._mine) <= number:
                if self._full_at is not None and abs(now - self._full_at) < _AGAIN:
                    return None
                block = next((block for block in range(at.BLOCKS) if self._storage.claim(block)), None)
                if block is None:
                    self._full_at = now
                    return None
                self._inherit(block, now)
                self._header[at.H_OWNERS + block] = os.getpid()
                self._mine.append(block)
            return self._mine[number]

    def bury(self, now: int) -> bool:
        """Turn the running calls of dead processes into failures. Return whether it was time to look again."""
        with self._mutex:
            if self._looked is not None and abs(now - self._looked) < _LOOK:
                return False
            self._looked = now
            for block, _ in self._owners():
                if block not in self._mine and self._storage.claim(block):
                    self._inherit(block, now)
                    self._header[at.H_OWNERS + block] = 0
                    self._storage.give_up(block)
            return True

    def lost(self, row: int) -> int:
        """Return how many calls of dead processes were buried in a row since this was last asked."""
        with self._mutex:
            return self._lost.pop(row, 0)

    def _owners(self) -> list[tuple[int, int]]:
        owners = self._header[at.H_OWNERS : at.H_OWNERS + at.BLOCKS].tolist()
        return [(block, owner) for block, owner in enumerate(owners) if owner]

    def _inherit(self, block: int, now: int) -> None:
        for index in range(self._header[at.H_ROWS]):
            if calls := inherit(self._storage.row(index), block, now):
                self._lost[index] += calls
