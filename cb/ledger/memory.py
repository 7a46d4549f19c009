"""The memory of a ledger that belongs to one process."""

import mmap
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from cb.errors import LedgerBusyError
from cb.states import Scope

from . import layout

R = TypeVar("R")

HEADER_BYTES = layout.HEADER * 8
RECORD_BYTES = layout.RECORD * 8


class Lock(Protocol):
    """The interface of ThreadLock and FileLock."""

    def run(self, work: Callable[[], R], timeout: float) -> R: ...
    def reset_after_fork(self) -> None: ...


class ThreadLock:
    """A lock between the threads of a process, with the interface of FileLock."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._running = False

    def __repr__(self) -> str:
        return f"<ThreadLock {'held' if self._running else 'free'}>"

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
        """Replace the lock in a forked child: a thread of the parent may hold it."""
        self._mutex = threading.RLock()
        self._running = False


class Memory:
    """Cells of one process. A forked child goes on with a copy."""

    scope = Scope.PROCESS
    path = "memory"
    fault: str | None = None
    of_another_user = False
    #: shards whose lock files this process holds: there are no lock files
    locked_shards = ()

    def __init__(self, header: memoryview | None = None, records: dict[int, memoryview] | None = None) -> None:
        self.header = header or _allocate(HEADER_BYTES)
        self.lock: Lock = ThreadLock()
        self._records = records or {}
        self._claimed: set[int] = set()
        self._roles: set[str] = set()

    def record(self, index: int) -> memoryview:
        """Return the cells of a record."""
        if index not in self._records:
            self._records[index] = _allocate(RECORD_BYTES)
        return self._records[index]

    def allocate(self, index: int, page: int) -> None:
        """Do nothing: the kernel allocates private pages when they are touched."""

    def claim(self, shard: int) -> bool:
        """Own a shard. Return False if it has an owner."""
        if shard in self._claimed:
            return False
        self._claimed.add(shard)
        return True

    def give_up(self, shard: int) -> None:
        """Give a shard up."""
        self._claimed.discard(shard)

    def give_up_all(self) -> None:
        """Do nothing: no other process can have taken a shard."""

    def alive(self, shard: int) -> bool:
        """Return True if a shard has an owner."""
        return shard in self._claimed

    def elect(self, role: str) -> bool:
        """Take a role. Return False if it is taken."""
        if role in self._roles:
            return False
        self._roles.add(role)
        return True

    def has(self, role: str) -> bool:
        """Return True if this process holds the role."""
        return role in self._roles

    def resign(self, role: str) -> None:
        """Give a role up."""
        self._roles.discard(role)

    def replaced(self) -> bool:
        """Return False: there is no file."""
        return False

    def keep_locks(self) -> tuple[bool, bool]:
        """Return (True, False): the shards are owned, and none had to be locked again."""
        return True, False

    def truncated(self) -> None:
        """Return None: there is no file."""

    def heartbeat(self, now: int, shards: Sequence[int]) -> None:
        """Do nothing: no other process can write over the cells."""

    def intact(self, shards: Sequence[int]) -> bool:  # noqa: ARG002 - the interface of MappedFile
        """Return True: no other process can write over the cells."""
        return True

    def reset_after_fork(self) -> None:
        """Start over in a forked child, without the calls that go on in its parent."""
        self.lock = ThreadLock()
        self._claimed.clear()
        self._roles.clear()
        header = self.header
        header[layout.H_HOST] = header[layout.H_FLEET_LEASE_UNTIL] = 0  # in a fleet, the child is a host of its own
        for owner in range(layout.H_SHARD_OWNERS, layout.H_SHARD_OWNERS + layout.SHARDS):
            header[owner] = 0
        for cells in self._records.values():
            for start in layout.stripe_starts(cells):
                cells[start + layout.STARTED] = 0
                taken, *ended = cells[start + layout.ROUND_TAKEN : start + layout.ROUND_RETURNED + 1].tolist()
                cells[start + layout.ROUND_RETURNED] += taken - sum(ended)


def _allocate(size: int) -> memoryview:
    # An anonymous mapping and not a bytearray: untouched pages cost nothing.
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    return memoryview(mmap.mmap(-1, size, **flags)).cast("q")
