"""Errors of other libraries with a text of ours: method, host and reason. Class and attributes stay as they are."""

from functools import lru_cache
from typing import Any

from cb.pickling import sendable


def described(error: BaseException, where: str, reason: str) -> BaseException:
    """Return an error of the same class and with the same attributes, whose text is another."""
    cls: Any = _described(type(error))  # type: ignore[arg-type]  # a class is hashable
    copied: Any = cls.__new__(cls, *error.args)
    if isinstance(error, OSError) and error.errno is not None:
        copied.errno, copied.strerror = error.errno, error.strerror
    copied.__dict__.update(error.__dict__, target_text=where, reason_text=reason)
    copied.__cause__ = error.__cause__
    return copied  # type: ignore[no-any-return]  # its class is made at run time


class Described:
    """An exception of another library, with a text of ours, that keeps it when it is pickled."""

    #: method and origin of the request
    target_text: str
    #: the reason, in words
    reason_text: str

    def __str__(self) -> str:
        return f"{self.target_text}: {self.reason_text}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Arguments and attributes of urllib3 are connections and pools: for those, their `repr` is pickled.
        args = tuple(map(sendable, getattr(self, "args", ())))
        return _rebuilt, (type(self).__mro__[2], args), {name: sendable(each) for name, each in self.__dict__.items()}


def _rebuilt(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    made = _described(cls)  # type: ignore[arg-type]  # a class is hashable
    rebuilt: BaseException = made.__new__(made, *args)
    return rebuilt


@lru_cache(maxsize=64)
def _described(cls: Any) -> Any:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (Described, cls), names)
