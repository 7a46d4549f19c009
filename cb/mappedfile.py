"""The memory of a ledger in a file, which all workers of a host map."""

import mmap
import os
import stat
import sys
from contextlib import suppress

from . import layout
from .errors import LedgerError, LedgerFullError
from .log import Log

log = Log(__name__)

PAGE_BYTES = layout.PAGE * 8
HEADER_BYTES = layout.HEADER * 8
ROW_BYTES = layout.ROW * 8
FILE_BYTES = HEADER_BYTES + layout.MAX_ROWS * ROW_BYTES


class MappedFile:
    """Cells in a file, shared by every process that maps it.

    The file is sparse; a page gets memory before its first use, because a store to a page for which there is none
    would kill the process with SIGBUS. Locks live in files of their own in `PATH.locks`, one per block and one for
    the transitions: they are never unlinked while the ledger exists.
    """

    scope = "host"

    def __init__(self, path: str) -> None:
        try:
            from .filelock import FileLock, claim
        except ImportError as error:
            raise LedgerError(path, "a shared ledger needs POSIX file locks; use memory://") from error
        self.path = path
        self._claim = claim
        self._owned: dict[int | str, int] = {}
        self._complained = False
        #: why the last block that could not be claimed was not, if not because it has an owner
        self.complaint: str | None = None
        try:
            os.makedirs(f"{path}.locks", mode=0o700, exist_ok=True)
            self.lock: FileLock = FileLock(f"{path}.locks/transitions")
            require_own(f"{path}.locks")
            self._fd = self.lock.run(self._open, 1.0)
            self._paths = (path, f"{path}.locks")
            self._identities = [_identity(os.stat(each)) for each in self._paths]
            self._cells = memoryview(mmap.mmap(self._fd, FILE_BYTES)).cast("q")
        except OSError as error:
            raise LedgerError(path, f"cannot be opened ({error.strerror})") from error
        self.header = self._cells[: layout.HEADER]

    def _open(self) -> int:
        """Open the file, made anew where there is none from this boot. Caller holds the lock."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_mode & 0o177077 != 0o100000:
                raise LedgerError(self.path, "is not a private file of this user (owner, mode 0600)")
            if in_use(fd, self.path):
                return fd
            # From before the last boot, or never finished: its times mean nothing. Nobody can have it mapped.
            os.ftruncate(fd, 0)
            os.ftruncate(fd, FILE_BYTES)
            _allocate(fd, self.path, 0, HEADER_BYTES)
            # In one piece: a process killed here leaves a whole header or none.
            start = b"".join(n.to_bytes(8, sys.byteorder) for n in (layout.MAGIC, layout.VERSION))
            os.pwrite(fd, start + _boot_id(), 0)
            return fd
        except BaseException:
            os.close(fd)
            raise

    def row(self, index: int) -> memoryview:
        """Return the cells of a row."""
        start = layout.HEADER + index * layout.ROW
        return self._cells[start : start + layout.ROW]

    def allocate(self, index: int, page: int) -> None:
        """Give a page of a row its memory, zeroed if it had none."""
        if not self._same(self._fd):
            self._reopen()
        _allocate(self._fd, self.path, HEADER_BYTES + index * ROW_BYTES + page * PAGE_BYTES, PAGE_BYTES)

    def claim(self, block: int) -> bool:
        """Own a block until this process ends. Return False if somebody else does."""
        return block not in self._owned and self._hold(block)

    def elect(self, role: str) -> bool:
        """Own a role until this process ends or resigns. Return False if somebody does already."""
        return role not in self._owned and self._hold(role)

    def resign(self, role: str) -> None:
        """Cease to own a role."""
        if role in self._owned:
            os.close(self._owned.pop(role))

    def _hold(self, what: int | str) -> bool:
        if what not in self._owned and (fd := self._try(what)) is not None:
            self._owned[what] = fd
        return what in self._owned

    def give_up(self, block: int) -> None:
        """Cease to own a block."""
        os.close(self._owned.pop(block))

    def alive(self, block: int) -> bool:
        """Return whether a block has an owner."""
        if block in self._owned:
            return True
        fd = self._try(block)
        if fd is not None:
            os.close(fd)
        return fd is None

    def _try(self, what: int | str) -> int | None:
        try:
            return self._claim(f"{self.path}.locks/{what}")
        except OSError as error:
            # No call may fail for that.
            if isinstance(what, int):
                self.complaint = str(error)
            else:
                complained, self._complained = self._complained, True  # before the line: its handler may come here
                if not complained:
                    log.warning("no role can be taken in the ledger: %s", error)
            return None

    def replaced(self) -> bool:
        """Return whether another file, or other locks, have taken the place of these: who comes now shares those."""
        try:
            return [_identity(os.stat(path, follow_symlinks=False)) for path in self._paths] != self._identities
        except OSError:
            return True

    def _reopen(self) -> None:
        """Replace a descriptor that a daemon has closed, and whose number may be another file's by now."""
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise LedgerFullError(self.path, f"cannot be opened again ({error.strerror})") from error
        if not self._same(self._fd):
            raise LedgerFullError(self.path, "was replaced")

    def _same(self, fd: int) -> bool:
        try:
            return _identity(os.fstat(fd)) == self._identities[0]
        except OSError:
            return False

    def renew(self) -> None:
        """Start over in a forked child, as a process that owns nothing."""
        self.lock.renew()
        for fd in self._owned.values():
            with suppress(OSError):  # a daemon may have closed all that it inherited
                os.close(fd)
        self._owned = {}


def in_use(fd: int, path: str) -> bool:
    """Return whether an open file is a ledger of this boot. Raises LedgerError if it can never be one."""
    size = os.fstat(fd).st_size
    header = memoryview(os.pread(fd, 64, 0).ljust(64, b"\0")).cast("q")
    if header[layout.H_MAGIC] != layout.MAGIC:
        if size not in (0, FILE_BYTES) or any(header):
            raise LedgerError(path, "is not a ledger")
        return False
    if header[layout.H_VERSION] != layout.VERSION:
        raise LedgerError(path, f"has version {header[layout.H_VERSION]}, not {layout.VERSION}")
    if header[layout.H_BOOT : layout.H_BOOT + 2].tobytes() != _boot_id():
        return False
    if size != FILE_BYTES:
        raise LedgerError(path, f"has {size} bytes, not {FILE_BYTES}")
    return True


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _allocate(fd: int, path: str, start: int, size: int) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, start, size)
    except OSError as error:
        raise LedgerFullError(path, f"no memory for another page ({error.strerror})") from error


def require_own(directory: str) -> None:
    """Refuse a directory in which somebody else could have laid the files, or could replace them."""
    found = os.lstat(directory)
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    if not own or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise LedgerError(directory, "is not a directory that this user alone may write to")


def _boot_id() -> bytes:
    """Return 16 bytes that change with every boot of this machine, zeros where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except OSError:
        return bytes(16)
