"""The public face of a ledger: the shared state of all breakers of a process or a host."""

import os
from functools import partial
from types import TracebackType
from typing import Any, Self

from cb.clocks import monotonic_ns
from cb.errors import LedgerError
from cb.events import StateChange
from cb.handles import Handle
from cb.states import Scope, counted

from .core import LedgerCore
from .fleet_view import FleetView
from .history import read_transitions
from .mapped import MappedFile, map_url
from .memory import Memory
from .readonly import ReadOnlyFile


class Ledger(Handle):
    """A table of breakers, in memory or in a file that all processes of a host share.

    Create one with `in_memory`, `in_file` or `open`; `view` is for a process that only reads. It is a context manager:
    `close` gives the file and its locks up.
    """

    def __init__(self, core: LedgerCore) -> None:
        #: internals, for the other parts of this library; they may change in any version
        self.core = core

    def __repr__(self) -> str:
        core = self.core
        where = core.path if core.scope is Scope.PROCESS else core.opened_as[0] if core.opened_as else core.path
        breakers = counted(len(core.names()), "breaker")
        shared = (
            "read-only" if core.read_only else f"shared by {core.scope}" if core.scope is Scope.HOST else "this process"
        )
        state = f", degraded: {core.degraded}" if core.degraded else ""
        return f"<Ledger {where}, {breakers}, {shared}{state}>"

    @classmethod
    def in_memory(cls) -> Self:
        """Return a ledger of this process alone."""
        return cls(LedgerCore(Memory()))

    @classmethod
    def in_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the ledger in a file, shared by all processes that name it. Raises LedgerError."""
        return cls(_of_caller(LedgerCore(MappedFile(os.path.abspath(path)))))

    @classmethod
    def view(cls, path: str | os.PathLike[str]) -> Self:
        """Return the ledger in a file for reading only: nothing is created or locked. Raises LedgerError."""
        return cls(LedgerCore(ReadOnlyFile(os.path.abspath(path))))

    @classmethod
    def open(cls, url: str, directory: str | os.PathLike[str] | None = None) -> Self:
        """Return the ledger that a URL names: `memory://`, `file:///path` or `shm://NAME`.

        `shm://NAME` is the file NAME.v3.ledger in `directory`, else in $CB_STATE_DIR, systemd's $RUNTIME_DIRECTORY, or
        a directory of this user in shared memory.

        A file that cannot be used costs sharing, not the service: the ledger is then of this process alone, which is
        logged and reported in `degraded`, and the file is tried again. Breakers move to the file once it can be opened.
        Raises ConfigError for any other URL.
        """
        if url == "memory://":
            return cls.in_memory()
        from pathlib import Path  # not above: a ledger in memory needs no paths, and their import takes long

        from .paths import shared_directory

        if directory is not None and Path(directory) == shared_directory():
            directory = None  # the directory of the new user, should this process change its user
        open_file = partial(map_url, url, directory)
        try:
            core = LedgerCore(open_file())
        except (LedgerError, OSError) as error:
            core = LedgerCore(Memory(), reason=str(error), open_again=open_file)
            core.report()
        core.opened_as = url, directory
        return cls(_of_caller(core))

    def _origin(self) -> tuple[Any, ...]:
        if self.scope is Scope.PROCESS:
            return (Ledger.in_memory,)
        if self.core.read_only:
            return Ledger.view, self.path
        from .opened import open_once  # not above: only what is pickled needs it

        return open_once, f"file://{self.path}", self.core.shards.program

    @property
    def scope(self) -> Scope:
        """HOST if other processes share this ledger, else PROCESS."""
        return self.core.scope

    @property
    def path(self) -> str:
        """The file, or `memory`."""
        return self.core.path

    @property
    def degraded(self) -> str | None:
        """Reason why breakers are not shared or counted as configured; None if they are."""
        return self.core.degraded

    def names(self) -> list[str]:
        """Return the names of all breakers, in the order of their creation."""
        return self.core.names()

    def history(self, since: int = 0) -> list[StateChange]:
        """Return the latest transitions of all breakers, at most 200, oldest first, those after number `since`."""
        return read_transitions(self.core.header, self.core.name, since)

    def join(self) -> None:
        """Become one of the `workers` before the first call."""
        self.core.join(monotonic_ns())

    def workers(self) -> int:
        """Return the number of live processes that count calls in this ledger."""
        return self.core.workers()

    @property
    def programs(self) -> list[str]:
        """The programs that have live workers in this ledger, by the name of their project: one, as a rule."""
        return sorted(self.core.shards.programs())

    def fleet(self) -> FleetView | None:
        """Return the host's connection to its fleet, None if it has never joined one."""
        return self.core.fleet(monotonic_ns())

    def close(self) -> None:
        """Give up the file, its locks and all roles of this process. Closing it again does nothing.

        Close it when no call is running: running calls count as failures for the other processes. Breakers that still
        exist go on in memory of this process.
        """
        self.core.close(monotonic_ns())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _of_caller(core: LedgerCore) -> LedgerCore:
    """Note the program that has opened a ledger: the project of the calling module."""
    from .project import calling_namespace, ledger_name, project_root  # not above: their import takes long

    core.shards.program = ledger_name(project_root(calling_namespace()))
    return core
