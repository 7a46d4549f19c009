"""The memory of a ledger in a file, which all workers of a host map."""

import mmap
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

from cb.errors import LedgerError, LedgerFullError

from . import boot_clock, layout
from .file import FILE_BYTES, HEADER_BYTES, PAGE_BYTES, RECORD_BYTES, allocate, open_file, require_own, share
from .memory import Memory
from .paths import path_of
from .process import process_number

__all__ = ["FILE_BYTES", "MappedFile", "map_url", "require_own"]


class MappedFile:
    """Cells in a file, shared by every process that maps it.

    The file is sparse; a page gets memory before its first use, because a store to a page for which there is none
    would kill the process with SIGBUS. Locks live in files of their own in `PATH.locks`, one per block and one for
    the transitions: they are never unlinked while the ledger exists.
    """

    scope = "host"

    def __init__(self, path: str) -> None:
        try:
            from . import remap
            from .claims import Claims
            from .locks import FileLock, LockFile, identity
        except ImportError as error:
            raise LedgerError(path, "a shared ledger needs POSIX file locks; use memory://") from error
        self.path = path
        self._identity, self._remap = identity, remap
        #: the user whose file it is
        self._user = os.geteuid()
        try:
            os.makedirs(f"{path}.locks", mode=0o700, exist_ok=True)
            self.lock: FileLock = FileLock(f"{path}.locks/transitions")
            require_own(f"{path}.locks")
            self._file = LockFile(path, self.lock.run(lambda: open_file(path), 1.0))
            self._paths = (path, f"{path}.locks")
            self._identities = [identity(os.stat(each)) for each in self._paths]
            self._cells = self._map()
            self._clock = boot_clock.offset()
        except OSError as error:
            raise LedgerError(path, f"cannot be opened ({error.strerror})") from error
        self._owned = Claims(f"{path}.locks")
        self.header = self._cells[: layout.HEADER]
        self._start = self.header[: layout.H_RECORDS].tolist()
        self._mutex = threading.RLock()
        self._beats: dict[int, tuple[int, ...]] = {}
        self._grown = [0, 0]

    def _map(self) -> memoryview:
        # By a descriptor of its own: mmap keeps a copy of it, which would keep the lock on the file as well.
        fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if self._identity(os.fstat(fd)) != self._identity(os.fstat(self._file.fileno())):
                raise LedgerError(self.path, "is replaced all the time")
            return memoryview(mmap.mmap(fd, FILE_BYTES)).cast("q")
        finally:
            os.close(fd)

    def row(self, index: int) -> memoryview:
        """Return the cells of a row."""
        start = layout.HEADER + index * layout.RECORD
        return self._cells[start : start + layout.RECORD]

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a row its memory, zeroed if it had none."""
        self._reopen()
        allocate(self._file.fileno(), self.path, HEADER_BYTES + index * RECORD_BYTES + page * PAGE_BYTES, PAGE_BYTES)

    def claim(self, block: int) -> bool:
        """Own a block until this process ends. Return False if somebody else does."""
        self._beats.pop(block, None)
        return self._owned.claim(block)

    def elect(self, role: str) -> bool:
        """Own a role until this process ends or resigns. Return False if somebody does already."""
        return self._owned.claim(role)

    def has(self, role: str) -> bool:
        """Return whether this process owns a role."""
        return role in self._owned

    def resign(self, role: str) -> None:
        """Cease to own a role."""
        self._owned.give_up(role)

    def give_up(self, block: int) -> None:
        """Cease to own a block."""
        self._owned.give_up(block)

    def give_up_all(self) -> None:
        """Cease to own any block."""
        for block in self._owned.blocks:
            self._owned.give_up(block)

    @property
    def blocks(self) -> list[int]:
        """The blocks that this process owns."""
        return self._owned.blocks

    def alive(self, block: int) -> bool:
        """Return whether a block has an owner."""
        return self._owned.alive(block)

    @property
    def complaint(self) -> str | None:
        """Why the last block that could not be claimed was not, if not because it has an owner."""
        return self._owned.complaint

    @property
    def foreign(self) -> bool:
        """True if this process has changed its user since it opened the file, and has not used it yet."""
        return os.geteuid() != self._user and not self._owned.blocks

    def replaced(self) -> bool:
        """Return whether another file, or other locks, have taken the place of these: who comes now shares those."""
        try:
            found = [self._identity(os.stat(path, follow_symlinks=False)) for path in self._paths]
        except OSError:
            return True
        return found != self._identities

    def keep(self) -> tuple[bool, bool]:
        """Take again what others took away of the blocks and roles.

        Returns whether no block is another process's now, and whether one may have been meanwhile.
        """
        again, lost = self._owned.keep()
        for block in again:
            self._beats.pop(block, None)
            self.header[layout.H_SHARD_OWNERS + block] = (
                process_number()
            )  # somebody may have taken it for a dead process's
        return not lost, bool(again)

    def cut(self) -> str | None:
        """Return what others have done to the length of the file, which processes have mapped; None if nothing."""
        try:
            self._reopen()
            fd = self._file.fileno()
            size = os.fstat(fd).st_size
        except (LedgerFullError, OSError):  # it was removed, and the descriptor closed: what is mapped is there still
            return None
        if size >= FILE_BYTES:
            return None
        with suppress(OSError):  # there is no room for the page: then it is a hole, and reads as zeros
            # Now, that other processes find zeros and not the end of the file, which would kill them: SIGBUS. With a
            # header of zeros it is no ledger to them, nor to newcomers.
            os.ftruncate(fd, FILE_BYTES)
            os.pwrite(fd, bytes(PAGE_BYTES), 0)
        return f"was cut to {size} bytes while it was in use"

    def mark(self, now: int, blocks: Sequence[int]) -> None:
        """Note in the blocks that this process counts in when it did so."""
        with self._mutex:
            for block in blocks:
                cell = layout.H_SHARD_HEARTBEATS + block
                if self.header[cell] not in self._beats.get(block, (self.header[cell],)):
                    continue  # others have written over it: `as_left` shall see that
                # Both, while it changes: an exception may come before the new one is written, or after.
                self._beats[block] = (self.header[cell], now)
                self.header[cell] = now
                self._beats[block] = (now,)

    def as_left(self, blocks: Sequence[int]) -> bool:
        """Return whether what this process has found and written stands there still. Writes nothing."""
        header = self.header
        with self._mutex:
            grown = header[layout.H_RECORDS : layout.H_EVENTS + 1].tolist()
            marks = [(header[layout.H_SHARD_HEARTBEATS + block], self._beats.get(block)) for block in blocks]
            kept = (
                header[: layout.H_RECORDS].tolist() == self._start
                and all(new >= old for new, old in zip(grown, self._grown, strict=True))
                and grown[0] <= layout.MAX_RECORDS
                and grown[1] < 1 << 62
                and all(mark is None or found in mark for found, mark in marks)
            )
            if kept:
                self._grown = grown
            return kept

    def leave(self) -> Memory:
        """Go on in memory of this process, all zeros, under the same addresses. Return it. Raises OSError."""
        self._remap.put_memory(self._cells)
        self.close()
        return Memory(self.header, {index: self.row(index) for index in range(layout.MAX_RECORDS)})

    def close(self) -> None:
        """Own nothing any more, and let others make the file anew."""
        self._owned.release()
        self._file.close()

    def put_under(self, cells: memoryview, index: int) -> None:
        """Put a row of this file under cells that were mapped before. Raises OSError."""
        self._remap.put_file(cells, self._file.fileno(), HEADER_BYTES + index * RECORD_BYTES)

    def put_header_under(self, cells: memoryview) -> None:
        """Put the header of this file under cells that were mapped before. Raises OSError."""
        self._remap.put_file(cells, self._file.fileno(), 0)

    def _reopen(self) -> None:
        """Replace a descriptor that a daemon has closed, and whose number may be another file's by now."""
        if self._file.mine:
            return
        try:
            file = type(self._file)(self.path, os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
            if self._identity(os.fstat(file.fileno())) != self._identities[0]:
                raise LedgerFullError(self.path, "was replaced")
            share(file.fileno(), self.path)
        except OSError as error:
            raise LedgerFullError(self.path, f"cannot be opened again ({error.strerror})") from error
        self._file = file

    def reset_after_fork(self) -> None:
        """Start over in a forked child, as a process that owns nothing."""
        self.lock.reset_after_fork()
        self._owned.reset_after_fork()
        self._mutex = threading.RLock()
        self._beats = {}


def map_url(url: str, directory: str | os.PathLike[str] | None) -> MappedFile:
    """Return the file that a URL names. Raises LedgerError, OSError, and ConfigError for what names none."""
    path = path_of(url, directory)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if url.startswith("shm://"):
        require_own(str(path.parent))
    return MappedFile(os.path.abspath(path))
