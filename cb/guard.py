"""A breaker around a block of code."""

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from .ledger.counters import Counters
from .ledger.probe_scope import enter
from .state.deferred import SUSPENDS


class Guard(Protocol):
    """What a block needs of its breaker."""

    def begin(self) -> Counters: ...
    def finish(self, tally: Counters, error: BaseException | None) -> None: ...
    def abandon(self, tally: Counters) -> None: ...


class CallGuard:
    """One use of a breaker in a `with` statement, which may end in any thread, and is never mistaken for another."""

    __slots__ = ("_guard", "_neutral", "_tally")

    def __init__(self, guard: Guard, neutral: Callable[[BaseException], bool] | None = None) -> None:
        self._guard = guard
        #: tells which exceptions of the block are neither success nor failure, whatever the breaker's rules say
        self._neutral = neutral

    def __enter__(self) -> Counters:
        self._tally = tally = self._guard.begin()
        if tally.scope:
            enter(tally.scope)
        return self._tally

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None and self._neutral is not None and self._neutral(error):
            self._guard.abandon(self._tally)
        else:
            self._guard.finish(self._tally, error)


class ContextGuards:
    """The blocks of one breaker that has to find out itself which of its uses ends: `with breaker`."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        # By place: the tally of the block that was entered last, and what was there before.
        self._entered: dict[int, tuple[Counters, Any]] = {}

    def enter(self, caller_context: int) -> Counters:
        tally = self._guard.begin()
        if tally.scope:
            enter(tally.scope)
        # A store and no call, so that no signal comes before the block that will take it out again.
        self._entered[caller_context] = tally, self._entered.get(caller_context)
        return tally

    def leave(self, caller_context: int, error: BaseException | None) -> None:
        if caller_context not in self._entered:
            caller_context = (
                threading.get_ident()
            )  # entered by a plain function for it, such as that of an AsyncExitStack
        if caller_context not in self._entered:
            raise RuntimeError("this block began in another thread or coroutine: use `with breaker.guard():`")
        tally, before = self._entered.pop(caller_context)
        if before:
            self._entered[caller_context] = before
        self._guard.finish(tally, error)


def caller_context() -> int:
    """Return what the two ends of a caller's block have in common, and no other block that may run in between."""
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to one's caller
    return -id(frame) if frame.f_code.co_flags & SUSPENDS else threading.get_ident()
