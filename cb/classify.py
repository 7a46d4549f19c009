"""What counts as a success, a failure, or neither."""

from collections.abc import Callable, Iterable
from typing import Any

from .errors import ConfigError
from .tally import Outcome

Kinds = type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool]


class Classifier:
    """The user's rules. A predicate that raises is the caller's own error: the call then counts as neither."""

    def __init__(self, failures: Kinds, ignored: Kinds, failed_result: Callable[[Any], bool] | None) -> None:
        self._is_failure = predicate("failures", failures)
        self._is_ignored = predicate("ignored", ignored)
        #: whether a returned value is a failure; None if none is
        self.failed_result = failed_result

    def error(self, error: BaseException, slow: bool) -> Outcome:
        """Return the outcome of a call that raised.

        An interruption that comes early says nothing about the dependency. One that comes late is the only trace of a
        hang: gunicorn ends a worker that hangs by a SystemExit.
        """
        if self._is_ignored(error):
            return Outcome.NEUTRAL
        if not isinstance(error, Exception):
            return Outcome.FAILURE if slow else Outcome.NEUTRAL
        return Outcome.FAILURE if self._is_failure(error) else Outcome.SUCCESS


def predicate(name: str, kinds: Kinds) -> Callable[[BaseException], bool]:
    """Return whether an exception is of the kinds, as a function. Raises ConfigError, with the setting's name."""
    if isinstance(kinds, type):
        kinds = (kinds,)
    if isinstance(kinds, Iterable):
        classes = tuple(kinds)
        if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
            return lambda error: isinstance(error, classes)
    elif callable(kinds):
        return kinds
    raise ConfigError(name, "be classes of exceptions, or a function of the exception", kinds)
