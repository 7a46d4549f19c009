"""The memory of a ledger that one process has to itself."""

import mmap
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from cb.errors import LedgerBusyError

from . import layout

R = TypeVar("R")

HEADER_BYTES = layout.HEADER * 8
RECORD_BYTES = layout.RECORD * 8


class Lock(Protocol):
    """What ThreadLock and FileLock have in common."""

    def run(self, work: Callable[[], R], timeout: float) -> R: ...
    def reset_after_fork(self) -> None: ...


class ThreadLock:
    """A lock between the threads of a process, with the ways of FileLock."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._running = False

    def run(self, work: Callable[[], R], timeout: float) -> R:  # noqa: ARG002 - no thread is ever stopped alone
        """Return work(), run under the lock. Raises LedgerBusyError in code that has interrupted its holder."""
        with self._mutex:
            if self._running:
                raise LedgerBusyError("memory", "is held by the code that was interrupted")
            try:
                self._running = True
                return work()
            finally:
                self._running = False

    def reset_after_fork(self) -> None:
        """Forget who held it, in a forked child."""
        self._mutex = threading.RLock()
        self._running = False


class Memory:
    """Cells of one process. A forked child goes on with a copy."""

    scope = "process"
    path = "memory"
    complaint: str | None = None

    def __init__(self, header: memoryview | None = None, rows: dict[int, memoryview] | None = None) -> None:
        self.header = header or _private(HEADER_BYTES)
        self.lock: Lock = ThreadLock()
        self._rows = rows or {}
        self._claimed: set[int] = set()
        self._roles: set[str] = set()

    def row(self, index: int) -> memoryview:
        """Return the cells of a row."""
        if index not in self._rows:
            self._rows[index] = _private(RECORD_BYTES)
        return self._rows[index]

    def allocate(self, index: int, page: int) -> None:
        """Do nothing: the kernel gives private pages when they are touched."""

    def claim(self, block: int) -> bool:
        """Own a block. Return False if somebody else does."""
        if block in self._claimed:
            return False
        self._claimed.add(block)
        return True

    def give_up(self, block: int) -> None:
        """Cease to own a block."""
        self._claimed.discard(block)

    def give_up_all(self) -> None:
        """Cease to own any block."""

    #: those that might be owned and not known: no other process waits for them
    blocks = ()

    def alive(self, block: int) -> bool:
        """Return whether a block has an owner."""
        return block in self._claimed

    def elect(self, role: str) -> bool:
        """Own a role. Return False if somebody does already."""
        if role in self._roles:
            return False
        self._roles.add(role)
        return True

    def has(self, role: str) -> bool:
        """Return whether this process owns a role."""
        return role in self._roles

    def resign(self, role: str) -> None:
        """Cease to own a role."""
        self._roles.discard(role)

    def replaced(self) -> bool:
        """Return whether another file has taken this one's place."""
        return False

    #: whether it is another user's
    foreign = False

    def keep(self) -> tuple[bool, bool]:
        """Return that the blocks are still owned, and always were."""
        return True, False

    def cut(self) -> None:
        """Return what others have done to its length: nothing."""

    def mark(self, now: int, blocks: Sequence[int]) -> None:
        """Note when calls were counted: nobody else could write over it."""

    def as_left(self, blocks: Sequence[int]) -> bool:  # noqa: ARG002 - others need them
        """Return whether nobody else has written to it."""
        return True

    def reset_after_fork(self) -> None:
        """Start over in a forked child, without the calls that go on in its parent."""
        self.lock = ThreadLock()
        self._claimed.clear()
        self._roles.clear()
        self.header[layout.H_HOST] = self.header[layout.H_FLEET_LEASE_UNTIL] = (
            0  # in a fleet, the child is a host of its own
        )
        for owner in range(layout.H_SHARD_OWNERS, layout.H_SHARD_OWNERS + layout.SHARDS):
            self.header[owner] = 0
        for cells in self._rows.values():
            for start in layout.tallies(cells):
                cells[start + layout.STARTED] = 0
                taken, *ended = cells[start + layout.ROUND_TAKEN : start + layout.ROUND_RETURNED + 1].tolist()
                cells[start + layout.ROUND_RETURNED] += taken - sum(ended)


def _private(size: int) -> memoryview:
    # An anonymous mapping and not a bytearray: pages that nobody touches cost nothing.
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return memoryview(mmap.mmap(-1, size, **flags)).cast("q")
