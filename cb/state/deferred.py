"""Functions that return before their work is done, so that a breaker cannot observe its outcome."""

import contextlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import AsyncGeneratorType, GeneratorType

from cb.pickling import PortableError

#: code flags of functions that may be suspended and resumed elsewhere
SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: types of results that are complete when returned: the built-in ones and those found since
PROMPT: set[type] = {type(None), bool, int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset}
#: number of types above which those found are forgotten: a program may create classes without end
_MOST = 1000
_MANAGER = contextlib._GeneratorContextManagerBase  # noqa: SLF001 - the type that a @contextmanager function returns
_LATE = (GeneratorType, AsyncGeneratorType, _MANAGER)
#: methods of objects that have a result later: awaitables, futures of any library, greenlets
_PROMISES = ("__await__", "add_done_callback", "rawlink")


class UnseenOutcomeError(PortableError, TypeError):
    """A function was guarded whose work is done after it returns: an error of the caller, which no breaker counts."""


def require_now(fn: Callable[..., object]) -> None:
    """Raise TypeError for anything but a function, and for a coroutine or generator function."""
    inner = fn
    while isinstance(inner, partial):
        inner = inner.func
    if not callable(inner):
        raise TypeError(f"{fn!r} is not a function: write `@breaker`, or `@breaker(fallback=...)`")
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    if code is not None and code.co_flags & SUSPENDS:
        way = "; `acall` or a decorator awaits it" if code.co_flags & inspect.CO_COROUTINE else ""
        raise UnseenOutcomeError(
            f"{fn!r} does its work after the call has returned: a breaker cannot see its outcome{way}"
        )


def require_done(result: object) -> None:
    """Raise TypeError for a result that is still to come, such as a coroutine, a Future or a generator.

    A coroutine is closed, so that Python does not warn that it was never awaited.
    """
    kind = type(result)
    if kind in PROMPT:
        return
    if not _late(result, kind):
        if not _promises(kind):  # a proxy has all methods
            if len(PROMPT) > _MOST:
                PROMPT.clear()
            PROMPT.add(kind)
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        with suppress(BaseException):  # one that has started may raise anything when closed
            result.close()
    way = "; `acall` awaits it" if inspect.isawaitable(result) else ""
    raise UnseenOutcomeError(
        f"the call returned {kind.__name__}, whose work is done later: a breaker cannot see its outcome{way}"
    )


def is_awaitable(result: object) -> bool:
    """Return True if `await` returns the result of this."""
    if type(result) in PROMPT or not inspect.isawaitable(result):
        return False
    shown = result.__class__  # a proxy has all methods
    return shown is type(result) or hasattr(shown, "__await__")


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
