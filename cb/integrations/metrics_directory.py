"""The directory through which the workers of a gunicorn master share their metrics.

Its owner is the process that holds the lock of a file in it, which the kernel releases when the process ends. A process
id would not identify the owner: containers that share a directory may have the same ids.
"""

import os
import re
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from cb.ledger.paths import shared_directory

_LOCK = "master.lock"
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOOKED_AT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAME = r"metrics-%s-[0-9a-f]{16}"


class MetricsDirectory:
    """A directory of this process, which holds its lock until it ends. Raises OSError.

    It is created under another name, so that it is locked before other processes see it.

    Args:
        parent: Directory in which it is created.
        name: Name of the service, a part of the directory's name.
    """

    def __init__(self, parent: Path, name: str) -> None:
        _remove_abandoned(parent, name)
        draft = tempfile.mkdtemp(prefix=".metrics-", dir=parent)
        try:
            self._lock = os.open(f"{draft}/{_LOCK}", _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            flock(self._lock, LOCK_EX | LOCK_NB)
            #: path of the directory
            self.path = parent / f"metrics-{name}-{secrets.token_hex(8)}"
            Path(draft).rename(self.path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def give(self, user: int, group: int) -> None:
        """Change the owner of the directory and of its files, as root, for workers that run as another user."""
        parent = self.path.parent
        if parent == shared_directory():
            parent.chmod(parent.stat().st_mode | 0o011)  # it cannot be listed, and its content is private
        # By descriptors: in a parent that belongs to the user, the path may lead to another file by now.
        directory = os.open(self.path, _LOOKED_AT | os.O_DIRECTORY)
        try:
            if os.fstat(directory).st_uid == user:
                return
            for name in os.listdir(directory):  # noqa: PTH208 - of a descriptor
                _give(os.open(name, _LOOKED_AT, dir_fd=directory), user, group)
            os.fchown(directory, user, group)
        finally:
            os.close(directory)

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path, ignore_errors=True)


def _give(fd: int, user: int, group: int) -> None:
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            os.fchown(fd, user, group)
    finally:
        os.close(fd)


def is_ours(directory: str, name: str) -> bool:
    """Return True if a path has the form of a directory that this module creates."""
    return re.fullmatch(_NAME % re.escape(name), Path(directory).name) is not None


def _remove_abandoned(parent: Path, name: str) -> None:
    """Remove the directories of killed masters."""
    for each in parent.iterdir():
        if is_ours(str(each), name):
            with suppress(OSError):
                fd = os.open(each / _LOCK, _FLAGS)
                try:
                    flock(fd, LOCK_EX | LOCK_NB)
                    shutil.rmtree(each, ignore_errors=True)
                finally:
                    os.close(fd)
