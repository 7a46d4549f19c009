"""What begins anew in a forked child: above all locks, which a thread that only the parent has may hold."""

import os
import weakref
from typing import Protocol

from .log import Log

log = Log(__name__)


class Renewed(Protocol):
    """What can begin anew."""

    def renew(self) -> None: ...


_ALL: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew_in_children(thing: Renewed) -> None:
    """Have `renew` called in every child that this process forks, as long as the thing exists."""
    _ALL.add(thing)


def _renew_all() -> None:
    for thing in list(_ALL):
        try:
            thing.renew()
        except BaseException:  # an interruption too: the others must begin anew all the same
            log.exception("%r cannot begin anew in a forked child", thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
