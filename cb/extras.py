"""Errors of imports whose package comes with an extra."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from .pickling import PortableError

_DISTRIBUTION = "distributed-circuit-breaker"


@contextmanager
def needs(extra: str, *packages: str) -> Iterator[None]:
    """Name the extra to install in the error of an import in this block. Raises ModuleNotFoundError.

    Args:
        extra: Name of the extra.
        packages: The packages that come with it. Errors about other packages are raised as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in packages or isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError(f"{error}: pip install '{_DISTRIBUTION}[{extra}]'", name=error.name) from error


class MissingExtraError(PortableError, ModuleNotFoundError):
    """A package is not installed that comes with an extra. Its `name` is the module that was not found."""

    def __init__(self, message: str, *, name: str | None = None) -> None:
        ModuleNotFoundError.__init__(self, message, name=name)

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.msg, copied.name = self.msg, self.name
        return copied

    def _sent(self) -> dict[str, Any]:
        return {**self.__dict__, "msg": self.msg, "name": self.name}
