"""The memory of a ledger in a file, for a process that only reads it."""

import mmap
import os
import stat
from collections.abc import Callable, Sequence

from cb.errors import LedgerError
from cb.states import Scope

from . import layout
from .file import ANOTHER_BOOT, EMPTY, FILE_BYTES, find_fault, has_owners, locked
from .memory import R

#: reason of the LedgerError for a ledger that is empty or from before the last boot, and that no process has in use
UNUSED = "has not been used since the last boot"
_FAULT = "is open for reading only"


class _NoLock:
    """A lock that cannot be taken: all that is done under it is writing."""

    def __init__(self, path: str) -> None:
        self._path = path

    def run(self, work: Callable[[], R], timeout: float) -> R:  # noqa: ARG002 - the interface of FileLock
        raise LedgerError(self._path, _FAULT)

    def reset_after_fork(self) -> None:
        pass


class ReadOnlyFile:
    """Cells of a file, mapped so that a store to them is a TypeError. Creates and locks nothing.

    It has the interface of MappedFile: no shard and no role can be taken, and supervision is left to the processes that
    write.
    """

    scope = Scope.HOST
    fault = _FAULT
    of_another_user = False
    locked_shards = ()

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = _NoLock(path)
        try:
            # Non-blocking: opening a pipe of that name would wait for a writer.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError as error:
            raise LedgerError(path, "a shared ledger needs POSIX file locks") from error
        except OSError as error:
            raise LedgerError(path, f"cannot be opened ({error.strerror})") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise LedgerError(path, "is not a ledger")
            fault = find_fault(fd, path)
            if fault == EMPTY or (fault == ANOTHER_BOOT and not has_owners(path)):
                raise LedgerError(path, UNUSED)
            if fault and fault != ANOTHER_BOOT:
                raise LedgerError(path, fault)
            self._cells = memoryview(mmap.mmap(fd, FILE_BYTES, access=mmap.ACCESS_READ)).cast("q")
        except OSError as error:
            raise LedgerError(path, f"cannot be read ({error.strerror})") from error
        finally:
            os.close(fd)
        self.header = self._cells[: layout.HEADER]
        if not 0 <= self.header[layout.H_RECORDS] <= layout.MAX_RECORDS:
            raise LedgerError(path, "is damaged")

    def record(self, index: int) -> memoryview:
        """Return the cells of a record."""
        start = layout.HEADER + index * layout.RECORD
        return self._cells[start : start + layout.RECORD]

    def allocate(self, index: int, page: int) -> None:  # noqa: ARG002 - the interface of MappedFile
        """Raise LedgerError."""
        raise LedgerError(self.path, _FAULT)

    def claim(self, shard: int) -> bool:  # noqa: ARG002 - the interface of MappedFile
        """Return False: no shard can be owned."""
        return False

    def give_up(self, shard: int) -> None:
        """Do nothing: no shard is owned."""

    def give_up_all(self) -> None:
        """Do nothing: no shard is owned."""

    def alive(self, shard: int) -> bool:
        """Return True if a shard has an owner."""
        try:
            return locked(f"{self.path}.locks/{shard}")
        except OSError:
            return False

    def elect(self, role: str) -> bool:  # noqa: ARG002 - the interface of MappedFile
        """Return False: no role can be taken."""
        return False

    def has(self, role: str) -> bool:  # noqa: ARG002 - the interface of MappedFile
        """Return False: no role can be taken."""
        return False

    def resign(self, role: str) -> None:
        """Do nothing: no role is held."""

    def replaced(self) -> bool:
        """Return False: the processes that write check it."""
        return False

    def keep_locks(self) -> tuple[bool, bool]:
        """Return (True, False): there are no locks to keep."""
        return True, False

    def truncated(self) -> None:
        """Return None: the processes that write check it."""

    def heartbeat(self, now: int, shards: Sequence[int]) -> None:
        """Do nothing: this process counts no calls."""

    def intact(self, shards: Sequence[int]) -> bool:  # noqa: ARG002 - the interface of MappedFile
        """Return True: the processes that write check it."""
        return True

    def reset_after_fork(self) -> None:
        """Do nothing: a forked child may go on reading."""
