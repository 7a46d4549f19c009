"""Objects that stand for a state outside of them, on their way to another process, and those that stay in theirs.

As a logger of the standard library, a breaker is not doubled: its copy is the breaker itself, and so is what is
unpickled in the process that pickled it. Another process makes one of its own, on the same ledger where that is a file.
"""

import secrets
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, Self

from .clocks import monotonic_ns

_KNOWN: weakref.WeakValueDictionary[str, "Handle"] = weakref.WeakValueDictionary()


class Handle:
    """An object that is pickled by what it was made of. Its listeners stay behind: they are of its process."""

    _token: str | None = None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        token = self._token
        if token is None:
            token = self._token = secrets.token_hex(16)
            _KNOWN[token] = self
        make, *args = self._origin()
        return _arrive, (token, make, args)

    def _origin(self) -> tuple[Any, ...]:
        """Return a function that makes one in another process, and its arguments."""
        raise NotImplementedError


class ProcessBound:
    """An object that works in the process that made it, and cannot leave it. Its copy there is the object itself."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled: make one in each process")


def clock_argument(clock: Callable[[], int]) -> dict[str, Any]:
    """Return the argument for a clock of somebody's own, nothing for that of the system."""
    return {} if clock is monotonic_ns else {"clock": clock}


def _arrive(token: str, make: Callable[..., Handle], args: list[Any]) -> Handle:
    found = _KNOWN.get(token)
    if found is None:
        found = make(*args)
        found._token = token  # noqa: SLF001 - of this module
        found = _KNOWN.setdefault(token, found)
    return found
