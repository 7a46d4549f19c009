"""The file of a ledger: opened, or created anew if no process can have it in use."""

import errno
import os
import stat
import sys
from contextlib import suppress

from cb.clocks import monotonic_ns
from cb.errors import LedgerError, LedgerFullError

from . import layout

PAGE_BYTES = layout.PAGE * 8
HEADER_BYTES = layout.HEADER * 8
RECORD_BYTES = layout.RECORD * 8
FILE_BYTES = HEADER_BYTES + layout.MAX_RECORDS * RECORD_BYTES
ANOTHER_BOOT, EMPTY = "is from before the last boot", "is empty"
#: attempts to open a file that is replaced meanwhile
_TRIES = 5
_SECOND = 1_000_000_000


def open_file(path: str) -> int:
    """Open a ledger's file, created anew if its content is void and it is unused. The caller holds the ledger lock.

    The descriptor has a shared lock: while any process holds it, no other creates the file anew. Raises LedgerError,
    OSError.
    """
    from .locks import is_at  # not above: some systems have no such locks

    for _ in range(_TRIES):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_mode & 0o177077 != 0o100000:
                raise LedgerError(path, "is not a private file of this user (owner, mode 0600)")
            share(fd, path)
            if is_at(path, fd) and (find_fault(fd, path) is None or not _create_anew(fd, path)):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise LedgerError(path, "is replaced all the time")


def share(fd: int, path: str) -> None:
    """Take the shared lock of a process that uses the file, held until the descriptor is closed. Raises LedgerError."""
    from fcntl import LOCK_NB, LOCK_SH, flock

    try:
        flock(fd, LOCK_SH | LOCK_NB)
    except BlockingIOError as error:
        raise LedgerError(path, "is locked by another program") from error


def find_fault(fd: int, path: str) -> str | None:
    """Return why the content of an open file is void, None if it is a ledger. Raises LedgerError, OSError."""
    size = os.fstat(fd).st_size
    header = memoryview(os.pread(fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0")).cast("q")
    if header[layout.H_MAGIC] != layout.MAGIC:
        if size not in (0, FILE_BYTES) or any(header):
            raise LedgerError(path, "is not a ledger")
        return EMPTY
    if header[layout.H_VERSION] != layout.VERSION:
        raise LedgerError(path, f"has version {header[layout.H_VERSION]}, not {layout.VERSION}")
    boot = header[layout.H_BOOT : layout.H_BOOT + 2].tobytes()
    if boot != _boot_id():
        return ANOTHER_BOOT
    if header[layout.H_CLOCK] != clock_offset():
        return "has the times of another clock (a time namespace)"
    if size < FILE_BYTES:
        raise LedgerError(path, f"has {size} bytes, not {FILE_BYTES}")
    return _damage(fd, header, known_boot=any(boot))


def _damage(fd: int, header: memoryview, *, known_boot: bool) -> str | None:
    records = header[layout.H_RECORDS]
    if not (0 <= records <= layout.MAX_RECORDS and 0 <= header[layout.H_EVENTS] < 1 << 62):
        return "is damaged"
    heads = [
        memoryview(os.pread(fd, layout.CONFIG * 8, HEADER_BYTES + index * RECORD_BYTES)).cast("q")
        for index in range(records)
    ]
    if not all(map(layout.is_record, heads)):
        return "is damaged"
    latest = max([header[layout.H_LAST_SYNC], *(max(head[layout.SINCE], head[layout.ORIGIN]) for head in heads)])
    if not known_boot and latest > monotonic_ns() + _SECOND:
        return ANOTHER_BOOT  # the system has no boot id, but its clock has restarted
    return None


def _create_anew(fd: int, path: str) -> bool:
    """Put an empty ledger in the place of one whose content is void.

    Returns False if the ledger is in use all the same: its locks prove that it is of this very boot, though this
    process reads another boot id, or none. Raises LedgerError if it is in use and unusable, OSError.
    """
    from fcntl import LOCK_EX, LOCK_NB, flock

    fault = find_fault(fd, path)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        in_use = has_owners(path)
    except BlockingIOError:
        in_use = True
    if not in_use:
        _put_new(path)
        return True
    header = memoryview(os.pread(fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0")).cast("q")
    same_clock = header[layout.H_CLOCK] == clock_offset()
    if fault == ANOTHER_BOOT and same_clock and os.fstat(fd).st_size >= FILE_BYTES:
        fault = _damage(fd, header, known_boot=True)
        if fault is None:
            share(fd, path)
            return False
    raise LedgerError(path, f"{fault or 'is being created'}, and other processes have it in use")


def has_owners(path: str) -> bool:
    """Return True if a process owns a shard of the ledger."""
    return any(locked(f"{path}.locks/{shard}") for shard in range(layout.SHARDS))


def locked(path: str) -> bool:
    """Return True if a process has locked the file. Creates no file."""
    from fcntl import LOCK_NB, LOCK_SH, flock

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        flock(fd, LOCK_SH | LOCK_NB)  # shared: two processes that test at once must not take each other for an owner
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _put_new(path: str) -> None:
    """Create an empty ledger beside the path and rename it: processes that have the old one mapped keep it whole."""
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)  # of a process that was killed here
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, FILE_BYTES)
        allocate(fd, path, 0, HEADER_BYTES)
        start = b"".join(n.to_bytes(8, sys.byteorder) for n in (layout.MAGIC, layout.VERSION))
        os.pwrite(fd, start + _boot_id(), 0)
        os.pwrite(fd, clock_offset().to_bytes(8, sys.byteorder, signed=True), layout.H_CLOCK * 8)
        os.rename(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    finally:
        os.close(fd)


def allocate(fd: int, path: str, start: int, size: int) -> None:
    """Give a part of the file memory, zeroed if it had none. Raises LedgerFullError."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, start, size)
    except OSError as error:
        raise LedgerFullError(path, f"no memory for another page ({error.strerror})") from error


def require_own(directory: str) -> None:
    """Raise LedgerError for a directory in which another user can create or replace files."""
    found = os.lstat(directory)
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    if not own or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise LedgerError(directory, "is not a directory that this user alone may write to")


def _boot_id() -> bytes:
    """Return 16 bytes that change with every boot of this machine, zeros if the system has none.

    Raises OSError if it cannot be read now.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            number = int(file.read().strip().replace(b"-", b""), 16)
        return number.to_bytes(16, "big")
    except (FileNotFoundError, NotADirectoryError):
        return bytes(16)
    except (ValueError, OverflowError) as error:
        raise OSError(errno.EINVAL, "the boot id is invalid") from error


def clock_offset() -> int:
    """Return the nanoseconds by which CLOCK_MONOTONIC is ahead of the machine's: 0 outside time namespaces.

    Raises OSError if it cannot be read now.
    """
    with suppress(FileNotFoundError, NotADirectoryError), open("/proc/self/timens_offsets", "rb") as file:
        for line in file:
            clock, seconds, nanoseconds = line.split()
            if clock in (b"monotonic", b"1"):
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
