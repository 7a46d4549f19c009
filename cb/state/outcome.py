"""Classification of calls as success, failure or neither."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

from cb.errors import ConfigError
from cb.states import Outcome

from .deferred import UnseenOutcomeError, require_done, require_now

#: exception types, or a function that returns True for the exceptions that are meant
ErrorFilter = type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool]
#: interruptions that derive from Exception, which integrations add
_interruptions: set[type[Exception]] = set()


class Classifier:
    """The user's rules. If a predicate raises, the call counts as neither success nor failure.

    Each member of an exception group is classified: one failure makes the call a failure, and the group is ignored only
    if all members are. With classes as `failures`, an exception raised `from` one of them is a failure too.
    """

    def __init__(
        self, failures: ErrorFilter, ignored: ErrorFilter, failed_result: Callable[[Any], bool] | None
    ) -> None:
        self._is_failure = predicate("failures", failures)
        self._is_ignored = predicate("ignored", ignored)
        # A predicate decides on the exception itself, and is not called again for its cause.
        self._examines_causes = not _is_function(failures)
        if failed_result is not None:
            _require_prompt("failed_result", failed_result)
        #: the rules as they were passed, to create an equal classifier
        self.rules = {"failures": _as_passed(self._is_failure), "ignored": _as_passed(self._is_ignored)}
        self.rules["failed_result"] = failed_result
        #: predicate of the returned values that are failures; None if none is
        self.failed_result = failed_result

    def error(
        self, error: BaseException, slow: bool, skip: Callable[[BaseException], bool] = lambda _: False
    ) -> Outcome:
        """Return the outcome of a call that raised. Members of a group that `skip` accepts are not classified."""
        return self.judge(error, slow, skip)[0]

    def judge(
        self, error: BaseException, slow: bool, skip: Callable[[BaseException], bool] = lambda _: False
    ) -> tuple[Outcome, BaseException]:
        """Return the outcome of a call that raised, and the exception that decided it: a cause, or a member of a group.

        An early interruption is no evidence about the dependency. A late one is the only trace of a hang: gunicorn ends
        a hanging worker by a SystemExit.
        """
        if not isinstance(error, BaseExceptionGroup):
            return self._one(error, slow)
        if self._is_ignored(error):
            return Outcome.NEUTRAL, error
        if self._is_failure(error):
            return Outcome.FAILURE, error
        found: dict[Outcome, BaseException] = {}
        for each in leaves(error):
            outcome, decisive = (Outcome.NEUTRAL, each) if skip(each) else self._one(each, slow)
            found.setdefault(outcome, decisive)
        if Outcome.SUCCESS in found and Outcome.FAILURE not in found and (cause := self._failed_cause(error)):
            return Outcome.FAILURE, cause
        return next(
            (each, found[each]) for each in (Outcome.FAILURE, Outcome.SUCCESS, Outcome.NEUTRAL) if each in found
        )

    def result(self, result: object) -> Outcome:
        """Return the outcome of a call that returned. Raises TypeError for a result that is still to come."""
        require_done(result)
        if self.failed_result is None:
            return Outcome.SUCCESS
        failed = self.failed_result(result)
        require_done(failed)
        return Outcome.FAILURE if failed else Outcome.SUCCESS

    def _one(self, error: BaseException, slow: bool) -> tuple[Outcome, BaseException]:
        if isinstance(error, UnseenOutcomeError) or self._is_ignored(error):
            return Outcome.NEUTRAL, error
        if is_interruption(error):
            return Outcome.FAILURE if slow else Outcome.NEUTRAL, error
        if self._is_failure(error):
            return Outcome.FAILURE, error
        cause = self._failed_cause(error)
        return (Outcome.FAILURE, cause) if cause else (Outcome.SUCCESS, error)

    def _failed_cause(self, error: BaseException) -> BaseException | None:
        """Return the failure that an exception was raised `from`, None if there is none."""
        if not self._examines_causes or error.__cause__ is None:
            return None
        return next((each for each in causes(error) if self._is_failure(each) and not self._is_ignored(each)), None)


def add_interruption(kind: type[Exception]) -> None:
    """Classify the exceptions of a class as interruptions, which end a call from outside."""
    _interruptions.add(kind)


def is_interruption(error: BaseException) -> bool:
    """Return True if an exception ended a call from outside, as KeyboardInterrupt does."""
    return not isinstance(error, Exception) or (bool(_interruptions) and isinstance(error, tuple(_interruptions)))


def predicate(name: str, kinds: ErrorFilter) -> Callable[[BaseException], bool]:
    """Return a predicate of the exceptions of some kinds. Raises ConfigError with the name of the setting.

    An exception group matches only a class of groups: apply the predicate to its `leaves`.
    """
    if _is_function(kinds):
        _require_prompt(name, kinds)
        return _Function(kinds)
    if isinstance(kinds, type):
        kinds = (kinds,)
    if isinstance(kinds, Iterable):
        classes = tuple(kinds)
        if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
            return _Classes(classes)
    raise ConfigError(name, "be classes of exceptions, or a function of the exception", kinds)


class _Classes:
    """Predicate of the instances of some classes."""

    def __init__(self, classes: tuple[type[BaseException], ...]) -> None:
        self.classes = classes
        self._groups = tuple(each for each in classes if issubclass(each, BaseExceptionGroup))

    def __call__(self, error: BaseException) -> bool:
        return isinstance(error, self._groups if isinstance(error, BaseExceptionGroup) else self.classes)


class _Function:
    """Predicate that a user has passed as a function."""

    def __init__(self, function: Callable[[BaseException], bool]) -> None:
        self.function = function

    def __call__(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return False
        matched = self.function(error)
        require_done(matched)
        return matched


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, at any depth, or the exception itself if it is no group."""
    left = [error]
    while left:
        each = left.pop()
        if isinstance(each, BaseExceptionGroup):
            left += reversed(each.exceptions)
        else:
            yield each


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the chain of causes of an exception, each once; of a group, its leaves."""
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
    """Yield an exception, its causes and its contexts, each once."""
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


def _as_passed(kinds: Callable[[BaseException], bool]) -> Any:
    return kinds.classes if isinstance(kinds, _Classes) else kinds.function if isinstance(kinds, _Function) else kinds


def _is_function(kinds: object) -> TypeGuard[Callable[[BaseException], bool]]:
    return callable(kinds) and not isinstance(kinds, type | Iterable)


def _require_prompt(name: str, function: Callable[..., object]) -> None:
    try:
        require_now(function)
    except TypeError as error:
        raise ConfigError(name, "return its result, and not a coroutine, a generator or a Future", function) from error
