"""Removal of a ledger that no process has in use."""

import os
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cb.errors import LedgerError

from . import layout
from .file import FILE_BYTES, PAGE_BYTES, has_owners, require_own

if TYPE_CHECKING:
    from .locks import FileLock

#: reason of the LedgerError for a ledger that is not removed
IN_USE = "is in use by a live process"
#: seconds to wait for the ledger lock
_LOCK_TIMEOUT_SECONDS = 1.0


def remove(path: str) -> None:
    """Remove the file and the lock files of a ledger that no process has in use.

    A process that opens the ledger meanwhile waits for the ledger lock, and creates the ledger anew.

    Raises:
        LedgerError: A process has it in use, it is no ledger, or it belongs to another user.
    """
    try:
        from .locks import FileLock
    except ImportError as error:
        raise LedgerError(path, "a shared ledger needs POSIX file locks") from error
    lock = FileLock(f"{path}.locks/transitions")
    try:
        os.close(_open(path))  # before a directory is created beside a file that is no ledger
        Path(f"{path}.locks").mkdir(mode=0o700, exist_ok=True)
        require_own(f"{path}.locks")
        lock.run(lambda: _remove_locked(path, lock), _LOCK_TIMEOUT_SECONDS)
        shutil.rmtree(_put_aside(path), ignore_errors=True)
    except OSError as error:
        raise LedgerError(path, f"cannot be removed ({error.strerror})") from error
    finally:
        lock.close()


def _remove_locked(path: str, lock: "FileLock") -> None:
    from fcntl import LOCK_EX, LOCK_NB, flock

    if not lock.at_its_path:
        raise LedgerError(path, "was removed by another process")
    fd = _open(path)
    try:
        flock(fd, LOCK_EX | LOCK_NB)  # each process that uses the file has a shared lock on it
        if has_owners(path):
            raise LedgerError(path, IN_USE)
        shutil.rmtree(_put_aside(path), ignore_errors=True)  # of a removal that was interrupted
        Path(path).unlink()
        Path(f"{path}.new").unlink(missing_ok=True)
        # Last: a process that waits for the lock notices by it that it must begin anew.
        Path(f"{path}.locks").rename(_put_aside(path))
    except BlockingIOError as error:
        raise LedgerError(path, IN_USE) from error
    finally:
        os.close(fd)


def _put_aside(path: str) -> str:
    return f"{path}.locks.forgotten"


def _open(path: str) -> int:
    """Open the file of a ledger, also of a damaged one. Raises LedgerError for any other file, OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise LedgerError(path, "belongs to another user")
        header = os.pread(fd, PAGE_BYTES, 0) if stat.S_ISREG(found.st_mode) else b"none"
        magic, version = (int.from_bytes(header[start : start + 8], sys.byteorder) for start in (0, 8))
        empty = not any(header) and found.st_size in (0, FILE_BYTES) and Path(f"{path}.locks").is_dir()
        if magic != layout.MAGIC and not empty:
            raise LedgerError(path, "is not a ledger")
        if version != layout.VERSION and not empty:
            raise LedgerError(path, f"has version {version}, not {layout.VERSION}")
    except BaseException:
        os.close(fd)
        raise
    return fd
