"""The memory of a ledger in a file, for a process that only looks at it."""

import mmap
import os
import stat
from collections.abc import Sequence
from typing import NoReturn

from cb.errors import LedgerError

from . import layout
from .file import ANOTHER_BOOT, EMPTY, FILE_BYTES, find_fault, has_owners, locked
from .mapped import MappedFile


class _NoLock:
    """Stands where the lock of the transitions is: who only looks makes none."""

    def __init__(self, path: str) -> None:
        self._path = path

    def run(self, *_: object) -> NoReturn:
        raise LedgerError(self._path, "is open for reading only")


class ViewedFile(MappedFile):
    """The cells of a MappedFile, mapped so that a store to them is a TypeError. Makes no file and owns no block."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = _NoLock(path)  # type: ignore[assignment]  # all that is asked of it is to be refused
        try:
            # Without blocking: a pipe of that name would wait for somebody who writes to it.
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
                raise LedgerError(path, "has not been used since the last boot")
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

    def alive(self, block: int) -> bool:
        """Return whether a block has an owner."""
        try:
            return locked(f"{self.path}.locks/{block}")
        except OSError:
            return False

    foreign = False

    def keep(self) -> tuple[bool, bool]:
        """Return that its blocks are still owned: it has none."""
        return True, False

    def cut(self) -> None:
        """Leave it to the processes that write."""

    def as_left(self, blocks: Sequence[int]) -> bool:  # noqa: ARG002 - it has none
        """Leave it to them too."""
        return True

    def reset_after_fork(self) -> None:
        """Do nothing: a forked child may look on."""
