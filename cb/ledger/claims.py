"""The blocks and the roles that this process owns: lock files that the kernel unlocks when it dies. POSIX only."""

import os
from collections.abc import Iterator
from contextlib import suppress

from cb.background.fork import detect_fork
from cb.log import Log

from .locks import LockFile, claim

log = Log(__name__)


class Claims:
    """Lock files of a directory, each with the lock that this process has on it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._owned: dict[int | str, LockFile] = {}
        self._complained = self._repaired = False
        #: why the last block that could not be claimed was not, if not because it has an owner
        self.complaint: str | None = None

    def __contains__(self, what: int | str) -> bool:
        return what in self._owned

    def __iter__(self) -> Iterator[int | str]:
        return iter(list(self._owned))

    @property
    def blocks(self) -> list[int]:
        """The blocks that this process owns."""
        return [what for what in list(self._owned) if isinstance(what, int)]

    def claim(self, what: int | str) -> bool:
        """Own a block or a role until this process ends or gives it up. Return False if somebody does already."""
        detect_fork()
        if isinstance(what, int):
            self.complaint = None
        if what not in self._owned and (file := self._try(what)) is not None:
            self._owned[what] = file
            return True
        return False

    def give_up(self, what: int | str) -> None:
        """Cease to own it."""
        detect_fork()
        if file := self._owned.pop(what, None):
            file.close()

    def alive(self, what: int | str) -> bool:
        """Return whether it has an owner."""
        detect_fork()
        if what in self._owned:
            return True
        file = self._try(what)
        if file is not None:
            file.close()
        return file is None

    def keep(self) -> tuple[list[int], list[int]]:
        """Look whether the locks are still had, and take again those whose file or descriptor was taken away.

        Returns the blocks that had to be taken again, and those that somebody else has taken, which are owned no more.
        A role that somebody else has taken is owned no more either.
        """
        taken: list[int | str] = []
        lost: list[int | str] = []
        for what, file in list(self._owned.items()):
            if file.mine and file.current:
                continue
            if (again := self._try(what)) is None and os.path.isdir(self._directory):
                lost.append(what)
                self.give_up(what)
            elif again:
                taken.append(what)
                self._owned[what] = again
            if not self._repaired:
                self._repaired = True
                log.warning("%s: lock files were removed, or closed, while they were in use", self._directory)
        return [what for what in taken if isinstance(what, int)], [what for what in lost if isinstance(what, int)]

    def _try(self, what: int | str) -> LockFile | None:
        try:
            return claim(f"{self._directory}/{what}")
        except OSError as error:
            # No call may fail for that.
            if isinstance(what, int):
                self.complaint = str(error)
            elif not self._complained:
                self._complained = True  # before the line: its handler may come here
                log.warning("no role can be taken in the ledger: %s", error)
            return None

    def reset_after_fork(self) -> None:
        """Start over in a forked child, as a process that owns nothing."""
        self.release()
        self._close_strays()

    def release(self) -> None:
        """Cease to own anything."""
        owned, self._owned = self._owned, {}
        for file in owned.values():
            file.close()

    def _close_strays(self) -> None:
        """Close what a thread of the parent had opened, and not noted yet, when the child was forked."""
        with suppress(OSError):  # the directory may have gone
            with os.scandir(self._directory) as entries:
                inodes = {entry.inode() for entry in entries}
            device = os.stat(self._directory).st_dev
            for number in map(int, os.listdir("/dev/fd")):
                with suppress(OSError):  # the one that listed them
                    found = os.fstat(number)
                    if found.st_dev == device and found.st_ino in inodes:
                        os.close(number)
