"""What counts as a success, a failure, or neither."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

from cb.errors import ConfigError
from cb.states import Outcome

from .deferred import UnseenOutcomeError, require_done, require_now

Kinds = type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool]


class Classifier:
    """The user's rules. A predicate that raises is the caller's own error: the call then counts as neither.

    Of an exception group each member is judged: one failure makes the call a failure, and it is ignored only if all
    members are. Where `failures` are classes, an exception raised `from` one of them is a failure too: the dependency's
    error arrives as the cause of another.
    """

    def __init__(self, failures: Kinds, ignored: Kinds, failed_result: Callable[[Any], bool] | None) -> None:
        self._is_failure = predicate("failures", failures)
        self._is_ignored = predicate("ignored", ignored)
        # A function may say no to an exception, and would be asked again about its cause.
        self._looks_at_causes = not _is_function(failures)
        if failed_result is not None:
            _require_prompt("failed_result", failed_result)
        #: the rules as they were given, to make another one of
        self.rules = {"failures": _given(self._is_failure), "ignored": _given(self._is_ignored)}
        self.rules["failed_result"] = failed_result
        #: whether a returned value is a failure; None if none is
        self.failed_result = failed_result

    def error(
        self, error: BaseException, slow: bool, skip: Callable[[BaseException], bool] = lambda _: False
    ) -> Outcome:
        """Return the outcome of a call that raised. Members of a group that `skip` accepts say nothing.

        An interruption that comes early says nothing about the dependency. One that comes late is the only trace of a
        hang: gunicorn ends a worker that hangs by a SystemExit.
        """
        if not isinstance(error, BaseExceptionGroup):
            return self._one(error, slow)
        if self._is_ignored(error):
            return Outcome.NEUTRAL
        if self._is_failure(error):
            return Outcome.FAILURE
        found = {Outcome.NEUTRAL if skip(each) else self._one(each, slow) for each in leaves(error)}
        if Outcome.SUCCESS in found and self._is_caused(error):
            return Outcome.FAILURE
        return next(each for each in (Outcome.FAILURE, Outcome.SUCCESS, Outcome.NEUTRAL) if each in found)

    def result(self, result: object) -> Outcome:
        """Return the outcome of a call that returned. Raises TypeError for a result that is still to come."""
        require_done(result)
        if self.failed_result is None:
            return Outcome.SUCCESS
        failed = self.failed_result(result)
        require_done(failed)
        return Outcome.FAILURE if failed else Outcome.SUCCESS

    def _one(self, error: BaseException, slow: bool) -> Outcome:
        if isinstance(error, UnseenOutcomeError) or self._is_ignored(error):
            return Outcome.NEUTRAL
        if not isinstance(error, Exception):
            return Outcome.FAILURE if slow else Outcome.NEUTRAL
        if self._is_failure(error):
            return Outcome.FAILURE
        return Outcome.FAILURE if self._is_caused(error) else Outcome.SUCCESS

    def _is_caused(self, error: BaseException) -> bool:
        """Return whether an exception was raised `from` a failure."""
        if not self._looks_at_causes or error.__cause__ is None:
            return False
        return any(self._is_failure(each) and not self._is_ignored(each) for each in causes(error))


def predicate(name: str, kinds: Kinds) -> Callable[[BaseException], bool]:
    """Return whether an exception is of the kinds, as a function. Raises ConfigError, with the setting's name.

    An exception group is of them only if a class of groups is among them: its `leaves` are to be asked about.
    """
    if _is_function(kinds):
        _require_prompt(name, kinds)
        return _Told(kinds)
    if isinstance(kinds, type):
        kinds = (kinds,)
    if isinstance(kinds, Iterable):
        classes = tuple(kinds)
        if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
            return _Named(classes)
    raise ConfigError(name, "be classes of exceptions, or a function of the exception", kinds)


class _Named:
    """Predicate of an exception: it is of one of some classes."""

    def __init__(self, classes: tuple[type[BaseException], ...]) -> None:
        self.classes = classes
        self._groups = tuple(each for each in classes if issubclass(each, BaseExceptionGroup))

    def __call__(self, error: BaseException) -> bool:
        return isinstance(error, self._groups if isinstance(error, BaseExceptionGroup) else self.classes)


class _Told:
    """Predicate of an exception that a user has given as a function."""

    def __init__(self, says: Callable[[BaseException], bool]) -> None:
        self.says = says

    def __call__(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return False
        said = self.says(error)
        require_done(said)
        return said


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, at any depth, or the one exception that is no group."""
    left = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            yield each


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what an exception was raised `from`, and what that was, each once; of groups their leaves."""
    left, seen = [error.__cause__], {id(error)}
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left.append(each.__cause__)
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            yield each


def history(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and those that it came from or that were handled when it was raised, each once."""
    left: list[BaseException | None] = [error]
    seen = set[int]()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


def _given(of: Callable[[BaseException], bool]) -> Any:
    return of.classes if isinstance(of, _Named) else of.says if isinstance(of, _Told) else of


def _is_function(kinds: object) -> TypeGuard[Callable[[BaseException], bool]]:
    return callable(kinds) and not isinstance(kinds, type | Iterable)


def _require_prompt(name: str, says: Callable[..., object]) -> None:
    try:
        require_now(says)
    except TypeError as error:
        raise ConfigError(name, "answer at once", says) from error
