"""The memory of a ledger in a file that all workers of a host map."""

import errno
import mmap
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

from cb.errors import LedgerBusyError, LedgerError, LedgerFullError
from cb.states import Scope

from . import layout
from .file import FILE_BYTES, HEADER_BYTES, PAGE_BYTES, RECORD_BYTES, allocate, open_file, require_own, share
from .memory import Memory
from .shards import process_number

__all__ = ["FILE_BYTES", "HEADER_BYTES", "PAGE_BYTES", "RECORD_BYTES", "MappedFile", "map_url", "require_own"]

#: attempts to open a ledger that is removed meanwhile
_TRIES = 5
_MAP_FIXED = 0x10  # of Linux, macOS and the BSDs; the module mmap lacks it


class MappedFile:
    """Cells in a file, shared by every process that maps it.

    The file is sparse; a page gets memory before its first use, because a store to a page for which there is none
    would kill the process with SIGBUS. Locks are files of their own in `PATH.locks`, one for each shard and one for the
    transitions; they are never unlinked while the ledger exists.

    Functions that were guarded before a ledger had to detach or to change its user have its cells in their closures.
    Therefore other memory is mapped at the same addresses.
    """

    scope = Scope.HOST

    def __init__(self, path: str) -> None:
        try:
            from .locks import Claims, FileLock, LockFile, identity
        except ImportError as error:
            raise LedgerError(path, "a shared ledger needs POSIX file locks; use memory://") from error
        # Loaded now: when they are needed, there may be no descriptor left to read them.
        from . import programs  # noqa: F401 - loaded for later, as the next one

        with suppress(ImportError):  # some builds of Python have none
            import ctypes  # noqa: F401 - loaded for later
        self.path = path
        self._identity = identity
        #: effective id of the user who opened it
        self._user = os.geteuid()
        try:
            self.lock: FileLock = FileLock(f"{path}.locks/transitions")
            self._file = LockFile(path, self._open(f"{path}.locks"))
            self._paths = (path, f"{path}.locks")
            self._identities = [identity(os.stat(each)) for each in self._paths]
            self._cells = self._map()
        except OSError as error:
            raise LedgerError(path, f"cannot be opened ({error.strerror})") from error
        self._claims = Claims(f"{path}.locks")
        self.header = self._cells[: layout.HEADER]
        self._start = self.header[: layout.H_RECORDS].tolist()
        self._mutex = threading.RLock()
        self._heartbeats: dict[int, tuple[int, ...]] = {}
        self._grown = [0, 0]

    def _open(self, locks: str) -> int:
        """Open the file under its lock, anew if another process removes both meanwhile. Raises LedgerError, OSError."""
        fault: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for _ in range(_TRIES):
            try:
                os.makedirs(locks, mode=0o700, exist_ok=True)
                require_own(locks)
                fd = self.lock.run(lambda: open_file(self.path) if self.lock.at_its_path else None, 1.0)
            except (FileNotFoundError, FileExistsError) as error:
                fault = error
            except LedgerBusyError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            else:
                if fd is not None:
                    return fd
        raise fault

    def _map(self) -> memoryview:
        # By a descriptor of its own: mmap keeps a copy of it, which would keep the lock on the file as well.
        fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if self._identity(os.fstat(fd)) != self._identity(os.fstat(self._file.fileno())):
                raise LedgerError(self.path, "is replaced all the time")
            return memoryview(mmap.mmap(fd, FILE_BYTES)).cast("q")
        finally:
            os.close(fd)

    def record(self, index: int) -> memoryview:
        """Return the cells of a record."""
        start = layout.HEADER + index * layout.RECORD
        return self._cells[start : start + layout.RECORD]

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a record its memory, zeroed if it had none. Raises LedgerFullError."""
        self._reopen()
        allocate(self._file.fileno(), self.path, HEADER_BYTES + index * RECORD_BYTES + page * PAGE_BYTES, PAGE_BYTES)

    def claim(self, shard: int) -> bool:
        """Own a shard until this process ends or gives it up. Return False if it has an owner."""
        self._heartbeats.pop(shard, None)
        return self._claims.claim(shard)

    def elect(self, role: str) -> bool:
        """Take a role until this process ends or resigns. Return False if it is taken."""
        return self._claims.claim(role)

    def has(self, role: str) -> bool:
        """Return True if this process holds the role."""
        return role in self._claims

    def resign(self, role: str) -> None:
        """Give a role up."""
        self._claims.give_up(role)

    def give_up(self, shard: int) -> None:
        """Give a shard up."""
        self._claims.give_up(shard)

    def give_up_all(self) -> None:
        """Give all shards up."""
        for shard in self._claims.shards:
            self._claims.give_up(shard)

    @property
    def locked_shards(self) -> list[int]:
        """The shards whose lock files this process holds."""
        return self._claims.shards

    def alive(self, shard: int) -> bool:
        """Return True if a shard has an owner."""
        return self._claims.alive(shard)

    @property
    def fault(self) -> str | None:
        """Reason why the last claim of a shard failed, if not because it has an owner."""
        return self._claims.fault

    @property
    def of_another_user(self) -> bool:
        """True if this process has changed its user since it opened the file, and has not used it yet."""
        return os.geteuid() != self._user and not self._claims.shards

    def replaced(self) -> bool:
        """Return True if another file, or other locks, are at the paths now: processes that start now share those."""
        try:
            found = [self._identity(os.stat(path, follow_symlinks=False)) for path in self._paths]
        except OSError:
            return True
        return found != self._identities

    def keep_locks(self) -> tuple[bool, bool]:
        """Lock again the shards and roles whose lock files were removed or closed.

        Returns whether every shard is still this process's, and whether another process may have had one meanwhile.
        """
        relocked, taken = self._claims.keep()
        for shard in relocked:
            self._heartbeats.pop(shard, None)
            self.header[layout.H_SHARD_OWNERS + shard] = process_number()  # it may have been reaped meanwhile
        return not taken, bool(relocked)

    def truncated(self) -> str | None:
        """Return a reason to detach if another program has truncated the file that processes have mapped, else None."""
        try:
            self._reopen()
            fd = self._file.fileno()
            size = os.fstat(fd).st_size
        except (LedgerFullError, OSError):  # it was removed, and the descriptor closed: the mapped pages still exist
            return None
        if size >= FILE_BYTES:
            return None
        with suppress(OSError):  # without room for the page it is a hole, and reads as zeros
            # At once, so that other processes find zeros and not the end of the file, which would kill them (SIGBUS).
            # With a header of zeros it is no ledger to them, nor to processes that start now.
            os.ftruncate(fd, FILE_BYTES)
            os.pwrite(fd, bytes(PAGE_BYTES), 0)
        return f"was cut to {size} bytes while it was in use"

    def heartbeat(self, now: int, shards: Sequence[int]) -> None:
        """Write the time of the latest calls into the shards of this process."""
        with self._mutex:
            for shard in shards:
                cell = layout.H_SHARD_HEARTBEATS + shard
                if self.header[cell] not in self._heartbeats.get(shard, (self.header[cell],)):
                    continue  # another program has written over it: left for `intact` to detect
                # Both, while it changes: an exception may come before the new one is written, or after.
                self._heartbeats[shard] = (self.header[cell], now)
                self.header[cell] = now
                self._heartbeats[shard] = (now,)

    def intact(self, shards: Sequence[int]) -> bool:
        """Return True if the file still holds the values that this process has read and written. Writes nothing."""
        header = self.header
        with self._mutex:
            grown = header[layout.H_RECORDS : layout.H_EVENTS + 1].tolist()
            heartbeats = [(header[layout.H_SHARD_HEARTBEATS + shard], self._heartbeats.get(shard)) for shard in shards]
            kept = (
                header[: layout.H_RECORDS].tolist() == self._start
                and all(new >= old for new, old in zip(grown, self._grown, strict=True))
                and grown[0] <= layout.MAX_RECORDS
                and grown[1] < 1 << 62
                and all(written is None or found in written for found, written in heartbeats)
            )
            if kept:
                self._grown = grown
            return kept

    def detach(self) -> Memory:
        """Map private memory, all zeros, at the same addresses and close the file. Raises OSError."""
        _map_over(self._cells, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        self.close()
        return Memory(self.header, {index: self.record(index) for index in range(layout.MAX_RECORDS)})

    def close(self) -> None:
        """Give everything up, so that another process may create the file anew."""
        self._claims.release()
        self._file.close()
        self.lock.close()

    def put_under(self, cells: memoryview, index: int) -> None:
        """Map a record of this file at the address of cells that were mapped before. Raises OSError."""
        _map_over(cells, mmap.MAP_SHARED, self._file.fileno(), HEADER_BYTES + index * RECORD_BYTES)

    def put_header_under(self, cells: memoryview) -> None:
        """Map the header of this file at the address of cells that were mapped before. Raises OSError."""
        _map_over(cells, mmap.MAP_SHARED, self._file.fileno(), 0)

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
        self._claims.reset_after_fork()
        self._mutex = threading.RLock()
        self._heartbeats = {}


def map_url(url: str, directory: str | os.PathLike[str] | None) -> MappedFile:
    """Return the file that a URL names. Raises LedgerError, OSError, and ConfigError for an invalid URL."""
    from .paths import ledger_path  # not above: a ledger in memory needs no paths, and their import takes long

    path = ledger_path(url, directory)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if url.startswith("shm://"):
        require_own(str(path.parent))
    return MappedFile(os.path.abspath(path))


def _map_over(cells: memoryview, flags: int, fd: int, start: int) -> None:
    """Map private zeros (fd -1) or a file, from byte `start` on, at the address of mapped cells. Raises OSError."""
    try:
        import ctypes
    except ImportError as error:
        raise OSError(errno.ENOSYS, "this Python has no ctypes") from error
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    address = ctypes.addressof(ctypes.c_char.from_buffer(cells))
    # In one step: a thread that loads from there meanwhile reads the old memory or the new.
    done = library.mmap(address, cells.nbytes, mmap.PROT_READ | mmap.PROT_WRITE, flags | _MAP_FIXED, fd, start)
    if done != address:
        raise OSError(ctypes.get_errno(), "memory cannot be mapped at the address of other memory")
