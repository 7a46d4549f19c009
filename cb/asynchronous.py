"""Guards for functions whose work is done while they are awaited or iterated over."""

import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from .background.event_loop import in_asyncio_task
from .call import Call
from .fallback import instead
from .state.deferred import is_awaitable, require_done, require_now

P = ParamSpec("P")
R = TypeVar("R")
_AWAITED = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE


def is_coroutine_function(fn: object) -> bool:
    """Return True if a call of this returns an awaitable, as far as that shows without a call.

    True for coroutine functions, methods, partial objects of them, objects with an asynchronous `__call__`, and what
    `inspect.markcoroutinefunction` has marked.
    """
    return bool(_flags(fn) & _AWAITED) or inspect.iscoroutinefunction(fn)


def is_generator_function(fn: object) -> bool:
    """Return True if a call of this returns an asynchronous generator."""
    return bool(_flags(fn) & inspect.CO_ASYNC_GENERATOR)


def _flags(fn: object) -> int:
    while isinstance(fn, partial):
        fn = fn.func
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None) if callable(fn) else None
    flags = getattr(code, "co_flags", 0)
    return flags if isinstance(flags, int) else 0


async def completed(result: Any) -> Any:
    """Return the result of an awaitable or a Future, or the value itself if it is complete.

    Raises UnseenOutcomeError for any other object whose work is done later, such as a generator.
    """
    if is_awaitable(result):
        return await result
    futures = sys.modules.get("concurrent.futures")
    if futures is not None and isinstance(result, futures.Future) and in_asyncio_task():
        return await sys.modules["asyncio"].wrap_future(result)
    require_done(result)
    return result


def completing(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function: call a function, and await what it returns. Raises TypeError as `require_now`."""
    if is_coroutine_function(fn):
        return fn
    given: object = fn
    if is_awaitable(given):
        if inspect.iscoroutine(given):
            given.close()  # else Python warns that it was never awaited
        raise TypeError(f"{fn!r} is no function, but its result: pass the function, and its arguments behind it")
    require_now(fn)

    async def complete(*args: Any, **kwargs: Any) -> Any:
        return await completed(fn(*args, **kwargs))

    return complete


def guard_coroutine(begin: Callable[[], Awaitable[Call]], fn: Callable[..., Awaitable[R]]) -> Callable[..., Any]:
    """Return a coroutine function: each call of it is admitted by `begin`, and guarded until it is done."""

    async def guarded(*args: Any, **kwargs: Any) -> R:
        call = await begin()
        call.enclose()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            call.fail(error)
            raise
        call.succeed(result)
        return result

    return guarded


def guard_generator(
    begin: Callable[[], Awaitable[Call]], fn: Callable[..., AsyncGenerator[Any, Any]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an asynchronous generator function whose iterations are calls, each admitted at its first item.

    The time that the caller spends between two items is no part of the call. A caller that stops early ends it without
    a failure: as a success once there was an item, as one that closes the body of a response early.
    """

    @wraps(fn)
    async def guarded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = await begin()
        call.enclose()
        try:
            source = fn(*args, **kwargs)
            step: Callable[[], Awaitable[Any]] = source.__anext__
            while True:
                try:
                    item = await step()
                except StopAsyncIteration:
                    break
                call.leave()
                call.pause()
                try:
                    sent = yield item
                except GeneratorExit:
                    # Settled first: a generator that the garbage collector closes after its loop can await nothing.
                    call.resume()
                    call.succeed()
                    await source.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on to the generator
                    step = partial(source.athrow, thrown)
                else:
                    step = partial(source.asend, sent)
                call.resume()
                call.enclose()
        except BaseException as error:
            call.fail(error)
            raise
        call.succeed()

    return guarded


def falling_back_async(
    guarded: Callable[..., Awaitable[Any]], fallback: Any, covers: Callable[[Exception], bool]
) -> Callable[..., Awaitable[Any]]:
    """Wrap a guarded coroutine function: for an exception that `covers` accepts, return the fallback, awaited."""

    @wraps(guarded)
    async def answered(*args: Any, **kwargs: Any) -> Any:
        try:
            return await guarded(*args, **kwargs)
        except Exception as error:
            if not covers(error):
                raise
            return await completed(instead(fallback, error))

    return answered
