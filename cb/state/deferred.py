"""Functions whose work is done after they have returned: a breaker cannot see how it ends."""

import contextlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import AsyncGeneratorType, GeneratorType

from cb.pickling import PortableError

#: code flags of functions that may stop in the middle and go on elsewhere
SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: types of results that are complete when they are returned, and those that have been found to be
PROMPT: set[type] = {type(None), bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset}
#: types after which those that have been found are forgotten: a program may make classes without end
_MOST = 1000
_MANAGER = contextlib._GeneratorContextManagerBase  # noqa: SLF001 - what calling a @contextmanager function makes
_LATE = (GeneratorType, AsyncGeneratorType, _MANAGER)
#: methods of those that will have a result, or fail: awaitables, futures of any library, greenlets
_PROMISES = ("__await__", "add_done_callback", "rawlink")


class UnseenOutcomeError(PortableError, TypeError):
    """A function whose work is done later was guarded: a mistake of its caller, which no breaker counts."""


def require_now(fn: Callable[..., object]) -> None:
    """Raise TypeError for what is no function, and for one whose call only makes a coroutine or a generator."""
    inner = fn
    while isinstance(inner, partial):
        inner = inner.func
    if not callable(inner):
        raise TypeError(f"{fn!r} is not a function: write `@breaker`, or `@breaker(fallback=...)`")
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    if code is not None and code.co_flags & SUSPENDS:
        raise UnseenOutcomeError(f"{fn!r} does its work after the call has returned: a breaker cannot see its outcome")


def require_done(result: object) -> None:
    """Raise TypeError for a result that is still to come, such as a coroutine, a Future or a generator.

    A coroutine is closed, so that nobody is told that it was never awaited.
    """
    kind = type(result)
    if kind in PROMPT:
        return
    if not _late(result, kind):
        if not _promises(kind):  # a proxy has all methods, whatever it stands for
            if len(PROMPT) > _MOST:
                PROMPT.clear()
            PROMPT.add(kind)
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        with suppress(BaseException):  # one that has begun may do anything when it is closed
            result.close()
    raise UnseenOutcomeError(
        f"the call returned {kind.__name__}, whose work is done later: a breaker cannot see its outcome"
    )


def _late(result: object, kind: type) -> bool:
    if issubclass(kind, _LATE):
        return True
    pool = sys.modules.get("multiprocessing.pool")
    if pool is not None and issubclass(kind, pool.ApplyResult | pool.IMapIterator):
        return True
    if not _promises(kind):
        return False
    shown = result.__class__
    return shown is kind or _late(result, shown)


def _promises(kind: type) -> bool:
    return any(hasattr(kind, name) for name in _PROMISES)
