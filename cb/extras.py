"""Errors of imports whose package comes with an extra."""

from collections.abc import Iterator
from contextlib import contextmanager

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
        raise MissingExtraError(f"{error}: pip install '{_DISTRIBUTION}[{extra}]'", error) from error


class MissingExtraError(ModuleNotFoundError):
    """A package is not installed that comes with an extra."""

    def __init__(self, message: str, cause: ModuleNotFoundError) -> None:
        super().__init__(message, name=cause.name, path=cause.path)
