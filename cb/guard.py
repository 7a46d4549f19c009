"""Context managers around blocks of code, and the protocol that breakers, bulkheads and policies satisfy."""

import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

from .background.event_loop import task_number
from .call import Call
from .state.deferred import SUSPENDS

P = ParamSpec("P")
R = TypeVar("R")


_ENTER_CONTEXT = contextlib.ExitStack.enter_context.__code__
_ENTER_ASYNC_CONTEXT = contextlib.AsyncExitStack.enter_async_context.__code__


class _Beginner(Protocol):
    """The part of a `Guard` that a block needs."""

    def begin(self) -> Call: ...
    async def _begin_async(self) -> Call: ...


async def begin_async(guard: Any) -> Call:
    """Admit a call as `begin` of a breaker, a bulkhead or a policy does, but wait without holding the event loop."""
    call: Call = await guard._begin_async()  # noqa: SLF001 - of the guards of this library
    return call


class CallGuard:
    """Context manager that guards one block of code. It yields the block's `Call`, and may end in any thread or task.

    In a coroutine, `async with` waits for a permit without holding the event loop. A call that the block
    settles itself is not settled again.
    """

    __slots__ = ("_call", "_discards", "_guard")

    def __init__(self, guard: _Beginner, discards: Callable[[BaseException], bool] | None = None) -> None:
        self._guard = guard
        #: tells the exceptions that count as neither success nor failure, before the breaker's rules are consulted
        self._discards = discards

    def __repr__(self) -> str:
        return f"<CallGuard of {self._guard!r}>"

    def __enter__(self) -> Call:
        self._call = call = self._guard.begin()
        call.enclose()
        return call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._call.succeed()
        elif self._discards is not None and self._discards(error):
            self._call.discard()
        else:
            self._call.fail(error)

    async def __aenter__(self) -> Call:
        self._call = call = await begin_async(self._guard)
        call.enclose()
        return call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Guard(Protocol):
    """Anything that guards calls to a dependency: a `CircuitBreaker`, a `Bulkhead` or a `Policy`."""

    @property
    def name(self) -> str:
        """Name of the dependency."""

    def begin(self) -> Call:
        """Admit a call that the caller runs itself. Settle it exactly once. Raises RejectedError."""

    def guard(self) -> CallGuard:
        """Return a context manager that guards one block of code."""

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return fn(*args, **kwargs). Raises RejectedError, without calling fn."""

    async def acall(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return await fn(*args, **kwargs). Raises RejectedError, without calling fn."""

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function."""


class ContextGuards:
    """The running `with breaker:` blocks of one breaker, found again at their end by thread, generator or coroutine."""

    def __init__(self, guard: _Beginner) -> None:
        self._guard = guard
        # By context: the call of the block that was entered last, and the entry of the block around it.
        self._entered: dict[int, tuple[Call, Any]] = {}

    def enter(self, context: int) -> Call:
        """Begin a block in a context of `caller_context`."""
        call = self._guard.begin()
        call.enclose()
        # A store and no call, so that no signal comes before the block that will remove it.
        self._entered[context] = call, self._entered.get(context)
        return call

    async def enter_async(self, context: int) -> Call:
        """Begin a block in a context of `caller_task`."""
        call = await begin_async(self._guard)
        call.enclose()
        self._entered[context] = call, self._entered.get(context)
        return call

    def leave(self, context: int, error: BaseException | None) -> None:
        """End the block that was entered last in a context. Raises RuntimeError if there is none."""
        if context not in self._entered:
            context = task_number()  # entered by an exit stack
        if context not in self._entered:
            context = threading.get_ident()  # entered by a plain function
        if context not in self._entered:
            raise RuntimeError("this block began in another thread or coroutine: use `with breaker.guard():`")
        call, before = self._entered.pop(context)
        if before:
            self._entered[context] = before
        if error is None:
            call.succeed()
        else:
            call.fail(error)

    async def leave_async(self, context: int, error: BaseException | None) -> None:
        """End the block that was entered last in a context. Raises RuntimeError if there is none."""
        self.leave(context, error)


class BlockGuard:
    """The `with` and `async with` of a guard. Its constructor sets `_entered`."""

    _entered: ContextGuards

    def __enter__(self) -> Call:
        """Guard a block. It must end where it began: in its generator or coroutine, else in its thread."""
        return self._entered.enter(caller_context())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._entered.leave(caller_context(), error)

    def __aenter__(self) -> Coroutine[Any, Any, Call]:
        """Guard a block of a coroutine, in the task or generator that has it."""
        return self._entered.enter_async(caller_task())

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return self._entered.leave_async(caller_task(), error)


def caller_context() -> int:
    """Return a number that both ends of the caller's block share, and that no block running in between has."""
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to one's caller
    if frame.f_code.co_flags & SUSPENDS:
        return -id(frame)
    return task_number() if frame.f_code is _ENTER_CONTEXT else threading.get_ident()


def caller_task() -> int:
    """Return the number of `caller_context` for the caller of an `async with` block.

    The functions that return it are no coroutine functions, so that the caller is the code that has the block.
    """
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to one's caller
    return task_number() if frame.f_code is _ENTER_ASYNC_CONTEXT else -id(frame)
