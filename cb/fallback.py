"""Fallback values."""

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, Protocol, SupportsFloat, TypeVar, overload


class _Record(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=Exception)
F = TypeVar("F")
#: A value that type checkers can distinguish from a function. For others, write `lambda error: value`.
V = TypeVar("V", bound="SupportsFloat | Iterable[Any] | _Record | None")


T_co = TypeVar("T_co", covariant=True)


if TYPE_CHECKING:  # the creation of a Protocol takes long

    class FallingBack(Protocol[T_co]):
        """Decorator of functions and coroutine functions: calls that fail return a fallback."""

        @overload
        def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R | T_co]]: ...
        @overload
        def __call__(self, fn: Callable[P, R]) -> Callable[P, R | T_co]: ...

    class AsyncFallingBack(Protocol[T_co]):
        """Decorator of coroutine functions: calls that fail return what the fallback returns."""

        def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R | T_co]]: ...


def reraise(error: Exception) -> NoReturn:
    """Raise the error: the default, no fallback."""
    raise error


def instead(fallback: Callable[[E], F] | V, error: E) -> F | V:
    """Return the fallback: a value, or the result of a function of the error."""
    return fallback(error) if callable(fallback) else fallback


def falling_back(
    guarded: Callable[P, R], fallback: Callable[[Exception], F] | V, covers: Callable[[Exception], bool]
) -> Callable[P, R | F | V]:
    """Wrap a guarded function: for an exception that `covers` accepts, return the fallback."""

    @wraps(guarded)
    def answered(*args: P.args, **kwargs: P.kwargs) -> R | F | V:
        try:
            return guarded(*args, **kwargs)
        except Exception as error:
            if not covers(error):
                raise
            return instead(fallback, error)

    return answered
