"""Copying and pickling of objects whose state lies outside of them, and of objects that stay in their process.

Like a logger of the standard library, a breaker is never duplicated: its copy is the breaker itself, and so is the
result of unpickling it in the process that pickled it. Another process creates its own, on the same ledger if that is a
file.
"""

import os
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, Self

from .clocks import monotonic_ns

_KNOWN: weakref.WeakValueDictionary[str, "Handle"] = weakref.WeakValueDictionary()


class Handle:
    """An object that is pickled as its constructor and arguments. Its listeners stay in their process."""

    _token: str | None = None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        token = self._token
        if token is None:
            token = self._token = os.urandom(16).hex()
            _KNOWN[token] = self
        make, *args = self._origin()
        return _arrive, (token, make, args)

    def _origin(self) -> tuple[Any, ...]:
        """Return a function that creates the object in another process, and its arguments."""
        raise NotImplementedError


class ProcessBound:
    """An object that cannot be pickled: it works only in the process that created it. Its copy is the object itself."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled: create one in each process")


def clock_argument(clock: Callable[[], int]) -> dict[str, Any]:
    """Return the keyword argument for a custom clock, none for the system's."""
    return {} if clock is monotonic_ns else {"clock": clock}


def _arrive(token: str, make: Callable[..., Handle], args: list[Any]) -> Handle:
    found = _KNOWN.get(token)
    if found is None:
        found = make(*args)
        found._token = token  # noqa: SLF001 - of this module
        found = _KNOWN.setdefault(token, found)
    return found
