"""Forked children begin anew: above all their locks, which a thread that only the parent has may hold.

`os.fork` announces a fork, and uWSGI does where its hook is set. What else forks in C does not: such a fork is noticed
by `detect_fork`, which everything calls that is about to use a lock, a block of the ledger or a thread.
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

#: seconds that a thread waits for another one to begin anew; the parent may have forked while it did so itself
RESET_TIMEOUT_SECONDS = 5.0
#: how often a thing is begun anew that is interrupted
_TRIES = 3
_WIPE_ON_FORK = 18  # Linux: a child finds zeros in the page


class ForkAware(Protocol):
    """Begins anew in a forked child."""

    def reset_after_fork(self) -> None: ...


_ALL: weakref.WeakSet[ForkAware] = weakref.WeakSet()


class _Pid:
    """Looks like a page that is zeroed in children, where the kernel has none."""

    _pid = 0

    def __getitem__(self, _: int) -> int:
        return int(os.getpid() == self._pid)

    def __setitem__(self, _: int, mark: int) -> None:
        self._pid = os.getpid() if mark else 0


def _wiped_page() -> mmap.mmap | _Pid:
    """Return a page that is zeroed in every child, also of a fork in C."""
    if not sys.platform.startswith("linux"):
        return _Pid()
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        page.madvise(_WIPE_ON_FORK)
    except OSError:  # before Linux 4.14, and in sandboxes
        return _Pid()
    return page


#: its first element is 0 in a forked child that has not begun anew yet
FORK_MARK = _wiped_page()
FORK_MARK[0] = 1


class _Process:
    """Has everything renewed in a child, once."""

    def __init__(self) -> None:
        self._renewing = 0  # id of the process that does; a child may find that of its parent here
        self._lock = threading.RLock()

    def announce(self) -> None:
        """Begin anew, in a child of `os.fork`, which has one thread."""
        self._lock, self._renewing, FORK_MARK[0] = threading.RLock(), 0, 0
        self.begin_anew()

    def begin_anew(self) -> None:
        lock = self._lock
        held = lock.acquire(timeout=RESET_TIMEOUT_SECONDS)
        try:
            if (
                self._renewing == os.getpid() or FORK_MARK[0]
            ):  # what is being renewed uses a lock; another thread was first
                return
            try:
                self._renewing = os.getpid()
                for thing in list(_ALL):
                    _renew(thing)
                FORK_MARK[0] = 1
            finally:
                self._renewing = 0  # interrupted before it was done, it is begun again
        finally:
            if held:
                lock.release()


def _renew(thing: ForkAware) -> None:
    for _ in range(_TRIES):
        try:
            thing.reset_after_fork()
            return
        except Exception:
            with suppress(Exception):  # a log handler of the parent may not work here
                log.exception("%r cannot begin anew in a forked child", thing)
            return
        except BaseException:  # noqa: BLE001, S112 - an interruption: it, and the others, must begin anew all the same
            continue


_process = _Process()


def detect_fork() -> None:
    """Begin anew in a child whose fork was not announced. Costs a load of memory where there was no fork."""
    if not FORK_MARK[0]:
        _process.begin_anew()


def register_fork_reset(thing: ForkAware) -> None:
    """Have `reset_after_fork` called in every child that this process forks, as long as the thing exists."""
    detect_fork()
    _hook_uwsgi()
    _ALL.add(thing)


def forks_in_c() -> bool:
    """Return whether this process is one of uWSGI that is no worker: its master forks them, and announces nothing."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi is not None and uwsgi.worker_id() == 0


class _Hook:
    """The hook of uWSGI, with the one that was there before."""

    def __init__(self, before: object) -> None:
        self._before = before

    def __call__(self) -> None:
        detect_fork()
        if callable(self._before):
            self._before()


def _hook_uwsgi() -> None:
    """Be told of the forks of uWSGI, in a process that it runs. Whoever sets its hook later is taken in."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not isinstance(hook := getattr(uwsgi, "post_fork_hook", None), _Hook):
        uwsgi.post_fork_hook = _Hook(hook)  # type: ignore[attr-defined]  # it is no attribute until it is set


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.announce)
