"""Ledgers that a process opens once, however many breakers name them."""

import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from cb.background.fork import detect_fork, register_fork_reset
from cb.errors import ConfigError
from cb.states import Scope

from .ledger import Ledger
from .paths import environment_url, ledger_path
from .project import ledger_name, project_root


class OpenedLedgers:
    """The ledgers of this process by their URL, as long as a breaker uses them.

    Two objects for one file would own a shard each, and there are 63 for all processes.
    """

    def __init__(self) -> None:
        self._ledgers: weakref.WeakKeyDictionary[Ledger, str] = weakref.WeakKeyDictionary()  # and their paths
        self.reset_after_fork()

    def __repr__(self) -> str:
        return f"<OpenedLedgers {', '.join(sorted(self._ledgers.values())) or 'none'}>"

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may have held it."""
        self._lock = threading.RLock()

    def get(self, url: str, program: str) -> Ledger:
        """Return the ledger of a URL, opened for a program at the first call. Raises ConfigError."""
        detect_fork()
        path = url if url == "memory://" else os.path.abspath(ledger_path(url))
        if found := self._find(path):
            return found
        ledger = Ledger.open(url)  # without the lock: it may wait, and write to the log
        ledger.core.shards.program = program
        with self._lock:
            if found := self._find(path):  # another thread was faster
                return found
            self._ledgers[ledger] = path
            return ledger

    def _find(self, path: str) -> Ledger | None:
        with self._lock:
            opened = [(each, before) for each, before in self._ledgers.items() if not each.core.closed]
        for each, before in opened:
            each.core.follow_user()
            # The path that it was opened for, if it is in memory: by its URL, or until it can be opened.
            if path == (before if each.scope is Scope.PROCESS else each.path):
                return each
        return None


OPENED = OpenedLedgers()
register_fork_reset(OPENED)


def open_once(url: str, program: str) -> Ledger:
    """Return the ledger of a URL, one object for all callers of this process. Raises ConfigError.

    Args:
        url: As for `Ledger.open`.
        program: Name of the project that uses it.
    """
    return OPENED.get(url, program)


def default_ledger(namespace: Mapping[str, Any]) -> Ledger:
    """Return the ledger of the project that a module belongs to, or of $CB_LEDGER. Raises ConfigError.

    Args:
        namespace: Globals of the module.
    """
    program = ledger_name(project_root(namespace))
    try:
        return open_once(environment_url() or f"shm://{program}", program)
    except ConfigError as error:
        raise ConfigError("CB_LEDGER", error.rule, error.value) from error
