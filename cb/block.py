"""A breaker around a block of code."""

import inspect
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from .nesting import enter
from .tally import Tally

#: code flags of functions that may stop in the middle and go on elsewhere
SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Guard(Protocol):
    """What a block needs of its breaker."""

    def begin(self) -> Tally: ...
    def finish(self, tally: Tally, error: BaseException | None) -> None: ...


class Block:
    """One use of a breaker in a `with` statement, which may end in any thread, and is never mistaken for another."""

    __slots__ = ("_guard", "_tally")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __enter__(self) -> Tally:
        self._tally = tally = self._guard.begin()
        if tally.scope:
            enter(tally.scope)
        return self._tally

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._guard.finish(self._tally, error)


class Entered:
    """The blocks of one breaker that has to find out itself which of its uses ends: `with breaker`."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        # By place: the tally of the block that was entered last, and what was there before.
        self._entered: dict[int, tuple[Tally, Any]] = {}

    def enter(self, place: int) -> Tally:
        tally = self._guard.begin()
        if tally.scope:
            enter(tally.scope)
        # A store and no call, so that no signal comes before the block that will take it out again.
        self._entered[place] = tally, self._entered.get(place)
        return tally

    def leave(self, place: int, error: BaseException | None) -> None:
        if place not in self._entered:
            place = threading.get_ident()  # entered by a plain function for it, such as that of an AsyncExitStack
        if place not in self._entered:
            raise RuntimeError("this block began in another thread or coroutine: use `with breaker.block():`")
        tally, before = self._entered.pop(place)
        if before:
            self._entered[place] = before
        self._guard.finish(tally, error)


def require_now(fn: Callable[..., object]) -> None:
    """Raise TypeError for what is no function, and for one whose call only makes a coroutine or a generator."""
    inner = fn
    while isinstance(inner, partial):
        inner = inner.func
    if not callable(inner):
        raise TypeError(f"{fn!r} is not a function: write `@breaker`, or `@breaker(fallback=...)`")
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    if code is not None and code.co_flags & SUSPENDS:
        raise TypeError(f"{fn!r} does its work after the call has returned: a breaker cannot see its outcome")


def place() -> int:
    """Return what the two ends of a caller's block have in common, and no other block that may run in between."""
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to one's caller
    return -id(frame) if frame.f_code.co_flags & SUSPENDS else threading.get_ident()
