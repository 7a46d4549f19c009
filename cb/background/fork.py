"""Reset of process-wide objects in forked children: above all of locks, which a thread of the parent may hold.

`os.fork` announces a fork, and so does uWSGI if its hook is set. Other forks in C do not: `detect_fork` detects them.
Call it before each use of a lock, a shard of the ledger or a thread.
"""

import mmap
import os
import sys
import threading
import weakref
from contextlib import suppress
from typing import Protocol

from cb.log import Log

log = Log(__name__)

#: seconds that a thread waits for another one that resets everything; the parent may have forked during its own reset
RESET_TIMEOUT_SECONDS = 5.0
#: attempts to reset an object that is interrupted
_TRIES = 3
_WIPE_ON_FORK = 18  # Linux: a child reads zeros from the page


class ForkAware(Protocol):
    """An object that starts over in a forked child."""

    def reset_after_fork(self) -> None: ...


_ALL: weakref.WeakSet[ForkAware] = weakref.WeakSet()


class _Pid:
    """The interface of a page that is zeroed in children, for kernels that have none."""

    _pid = 0

    def __getitem__(self, _: int) -> int:
        return int(os.getpid() == self._pid)

    def __setitem__(self, _: int, mark: int) -> None:
        self._pid = os.getpid() if mark else 0


def _wiped_page() -> mmap.mmap | _Pid:
    """Return a page that is zeroed in every child, also after a fork in C."""
    if not sys.platform.startswith("linux"):
        return _Pid()
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except OSError:  # before Linux 4.14, and in sandboxes
        return _Pid()
    return page


#: its first element is 0 in a forked child that has not reset its objects yet
FORK_MARK = _wiped_page()
FORK_MARK[0] = 1


class _Process:
    """Resets all registered objects in a child, once."""

    def __init__(self) -> None:
        self._resetting = 0  # id of the process that resets; a child may find that of its parent here
        self._lock = threading.RLock()

    def announce(self) -> None:
        """Reset everything in a child of `os.fork`, which has one thread."""
        self._lock, self._resetting, FORK_MARK[0] = threading.RLock(), 0, 0
        self.reset_all()

    def reset_all(self) -> None:
        lock = self._lock
        held = lock.acquire(timeout=RESET_TIMEOUT_SECONDS)
        try:
            # An object uses a lock while it is reset, or another thread was first.
            if self._resetting == os.getpid() or FORK_MARK[0]:
                return
            try:
                self._resetting = os.getpid()
                for each in list(_ALL):
                    _reset(each)
                FORK_MARK[0] = 1
            finally:
                self._resetting = 0  # if it was interrupted, the next call starts again
        finally:
            if held:
                lock.release()


def _reset(each: ForkAware) -> None:
    for _ in range(_TRIES):
        try:
            each.reset_after_fork()
            return
        except Exception:
            with suppress(Exception):  # a log handler of the parent may not work here
                log.exception("the reset of %r in a forked child failed", each)
            return
        except BaseException:  # noqa: BLE001, S112 - an interruption: this object and the others must be reset anyway
            continue


_process = _Process()


def detect_fork() -> None:
    """Reset everything in a child whose fork was not announced. Without a fork it costs a load of memory."""
    if not FORK_MARK[0]:
        _process.reset_all()


def register_fork_reset(each: ForkAware) -> None:
    """Call the object's `reset_after_fork` in every child that this process forks, as long as the object exists."""
    detect_fork()
    _hook_uwsgi()
    _ALL.add(each)


def forks_in_c() -> bool:
    """Return True in a process of uWSGI that is no worker: its master forks workers without announcing it."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


class _Hook:
    """The `post_fork_hook` of uWSGI, followed by the one that was set before."""

    def __init__(self, before: object) -> None:
        self._before = before

    def __call__(self) -> None:
        detect_fork()
        if callable(self._before):
            self._before()


def _hook_uwsgi() -> None:
    """Set the `post_fork_hook` in a process of uWSGI. A hook that is set later is wrapped at the next call."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not isinstance(hook := getattr(uwsgi, "post_fork_hook", None), _Hook):
        uwsgi.post_fork_hook = _Hook(hook)  # type: ignore[attr-defined]  # it is no attribute until it is set


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.announce)
