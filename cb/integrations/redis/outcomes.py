"""Outcomes of commands: the errors of redis-py that are failures of the server, and those that are its responses."""

from collections.abc import Iterable
from typing import Any

from redis.exceptions import (
    ClusterError,
    ConnectionError,  # noqa: A004 - the name that redis-py gave it
    InvalidResponse,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
    TimeoutError,  # noqa: A004 - as above
    TryAgainError,
    WatchError,
)

from cb import Call, CircuitError

_FAILURES = (
    ConnectionError,
    TimeoutError,
    OSError,
    InvalidResponse,
    ReadOnlyError,
    ClusterError,
    SlotNotCoveredError,
    TryAgainError,
)
#: codes of errors for which clients of one server have no class: it can serve no command
_CODES = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN"})
_FOREVER = float("inf")
#: commands that wait in the server, by the place of their timeout, and its unit in seconds
_WAITS: dict[str, tuple[int, float]] = {
    **dict.fromkeys(("BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BZPOPMIN", "BZPOPMAX"), (-1, 1.0)),
    **dict.fromkeys(("BLMPOP", "BZMPOP"), (1, 1.0)),
    **dict.fromkeys(("WAIT", "WAITAOF"), (-1, 0.001)),
}
#: commands that wait with an option BLOCK, by its earliest place
_OPTIONAL_WAITS = {"XREAD": 1, "XREADGROUP": 4}


def is_failure(error: BaseException) -> bool:
    """Return True if an error shows that the server is lost, hangs or cannot serve any client."""
    if isinstance(error, _FAILURES):
        return True
    if isinstance(error, WatchError):
        return "occurred" in str(error)  # the connection was lost, and with it what it watched
    if isinstance(error, RedisClusterException):
        return (error.__cause__ is not None and is_failure(error.__cause__)) or "not covered" in str(error)
    if isinstance(error, ResponseError):
        # A pipeline writes the command before the message of the server, and an asynchronous one quotes the message.
        return str(error).rpartition("caused error: ")[2].lstrip("('\"").partition(" ")[0] in _CODES
    return False


def settle(call: Call, error: BaseException) -> None:
    """Count the outcome of a command that raised an error."""
    if is_failure(error) or not isinstance(error, Exception):
        call.fail(error)
    elif isinstance(error, (ResponseError, WatchError)):
        call.succeed()
    elif isinstance(error, CircuitError):
        call.fail(error)  # the rules of the breaker know it
    else:
        call.discard()  # an error of the caller, before or after the server was asked


def settle_results(call: Call, results: Any) -> None:
    """Count the outcome of a command or a pipeline that returned. A pipeline may return errors."""
    errors: Iterable[Any] = results if isinstance(results, list) else ()
    failure = next((each for each in errors if isinstance(each, Exception) and is_failure(each)), None)
    if failure is None:
        call.succeed()
    else:
        call.fail(failure)


def is_read_timeout(error: BaseException) -> bool:
    """Return True if a connection was established, and the response to a command did not arrive in time."""
    return isinstance(error, TimeoutError) and "reading" in str(error)


def wait_of(arguments: tuple[Any, ...]) -> float | None:
    """Return the seconds that a command waits in the server by its own timeout; None if it does not wait."""
    name = _text(arguments[0]) if arguments else ""
    if place := _OPTIONAL_WAITS.get(name):
        words = [_text(word) for word in arguments[place:]]
        option = words.index("BLOCK") if "BLOCK" in words else len(words)
        return _seconds(words[option + 1], 0.001) if option + 1 < len(words) else None
    if name not in _WAITS:
        return None
    place, unit = _WAITS[name]
    return _seconds(_text(arguments[place]), unit) if len(arguments) > 1 else None


def wait_of_pipeline(pipeline: Any) -> float | None:
    """Return the seconds that the commands of a pipeline wait; None if none does. In a transaction none does."""
    if getattr(pipeline, "transaction", True) or getattr(pipeline, "explicit_transaction", False):
        return None
    waits = [wait for arguments, _ in pipeline.command_stack if (wait := wait_of(arguments)) is not None]
    return sum(waits) if waits else None


def _text(word: Any) -> str:
    return (word.decode("latin-1") if isinstance(word, bytes) else str(word)).upper()


def _seconds(number: str, unit: float) -> float:
    try:
        return float(number) * unit or _FOREVER
    except ValueError:
        return _FOREVER  # the server will refuse it
