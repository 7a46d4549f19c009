"""Exceptions that can be pickled with all their attributes."""

from typing import Any, Self, TypeVar

E = TypeVar("E", bound=BaseException)


class PortableError(Exception):
    """An exception that survives `pickle`, `copy`, pools of processes and the JSON of task queues.

    Its `args` are the arguments of its class, so that `cls(*args)` creates it again. Attributes, notes and the cause
    are included; those that cannot be pickled are replaced by their `repr`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: sendable(value) for name, value in self._sent().items()}
        if self.__cause__ is not None:
            cause = sendable(self.__cause__)
            state["__cause__"] = cause if isinstance(cause, BaseException) else UnpicklableCause(cause)
        return _made, (type(self), tuple(map(sendable, self.args))), state

    def __copy__(self) -> Self:
        copied = _made(type(self), self.args)
        copied.__dict__.update(self.__dict__)
        copied.__cause__, copied.__context__ = self.__cause__, self.__context__
        copied.__suppress_context__ = self.__suppress_context__
        return copied.with_traceback(self.__traceback__)

    def _sent(self) -> dict[str, Any]:
        """Return the attributes to include."""
        return self.__dict__


class UnpicklableCause(PortableError):
    """The cause of an exception from another process, if that cause could not be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        #: its `repr`
        self.text = text


def _made(cls: type[E], args: tuple[Any, ...]) -> E:
    # Not cls(*args): a derived class may take other arguments.
    error = cls.__new__(cls)
    error.args = args
    return error


def sendable(value: Any) -> Any:
    """Return the value if it can be pickled and unpickled, else its `repr`.

    Both are tried: `multiprocessing.Pool` waits forever for a result that its parent cannot unpickle.
    """
    # A PortableError does this by itself: a chain of causes would be tried again with each of its members.
    if value is None or isinstance(value, str | int | float | bytes | PortableError):
        return value
    try:
        import pickle  # not above: only errors that travel between processes need it

        pickle.loads(pickle.dumps(value))  # noqa: S301 - it was pickled in the same line
    except Exception:  # noqa: BLE001 - any class may raise anything there
        return _shown(value)
    return value


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - see above
        return object.__repr__(value)
