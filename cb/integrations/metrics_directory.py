"""The directory in which the workers of a gunicorn master share their metrics.

It belongs to the process that holds the lock of a file in it, which the kernel frees when that ends. A process id
would identify nothing: containers that share a directory have the same ones.
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
    """A directory of this process, which holds its lock for life. Raises OSError.

    Made under another name, so that it has its lock when others can see it.
    """

    def __init__(self, parent: Path, name: str) -> None:
        _remove_abandoned(parent, name)
        draft = tempfile.mkdtemp(prefix=".metrics-", dir=parent)
        try:
            self._lock = os.open(f"{draft}/{_LOCK}", _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
            flock(self._lock, LOCK_EX | LOCK_NB)
            #: where it is
            self.path = parent / f"metrics-{name}-{secrets.token_hex(8)}"
            Path(draft).rename(self.path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise

    def give(self, user: int, group: int) -> None:
        """Let workers use it that run as another user: it, and what this process has made in it. Root alone can."""
        parent = self.path.parent
        if parent == shared_directory():
            parent.chmod(parent.stat().st_mode | 0o011)  # it is not listed, and all that is in it is private
        # By descriptors: where the parent is the user's, nothing must be given away that was put in its place.
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
        """Leave nothing behind."""
        shutil.rmtree(self.path, ignore_errors=True)


def _give(fd: int, user: int, group: int) -> None:
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            os.fchown(fd, user, group)
    finally:
        os.close(fd)


def is_ours(directory: str, name: str) -> bool:
    """Return whether a directory, there or not, is one that a master of ours has made."""
    return re.fullmatch(_NAME % re.escape(name), Path(directory).name) is not None


def _remove_abandoned(parent: Path, name: str) -> None:
    """Remove the directories of masters that were killed."""
    for each in parent.iterdir():
        if is_ours(str(each), name):
            with suppress(OSError):
                fd = os.open(each / _LOCK, _FLAGS)
                try:
                    flock(fd, LOCK_EX | LOCK_NB)
                    shutil.rmtree(each, ignore_errors=True)
                finally:
                    os.close(fd)
