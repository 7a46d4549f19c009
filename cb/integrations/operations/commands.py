"""Operators' commands, and the list of state changes."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from cb.config import parse_duration
from cb.control import BreakerControl
from cb.errors import ConfigError
from cb.events import StateChange
from cb.registry import Registry

from .problem import Problem
from .request import Request
from .request_input import Converter, Member, read_object, read_query

_AUTHOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_DIGITS = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
#: characters of a reason, and entries of a list of events: the log keeps no more of either
MAX_REASON = MAX_EVENTS = 200
#: largest number of an event
MAX_NUMBER = 2**62
#: seconds
_MAX_DURATION = 86_400
# Invisible characters and those that change how a line is shown: controls, spaces other than U+0020, directions.
_INVISIBLE = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"
    r"\ufff9-\uffff"
)
#: a line of printable text, in the syntax that Python and ECMA-262 share
REASON = re.compile(f" *[^ {_INVISIBLE}][^{_INVISIBLE}]*")
#: halves of surrogate pairs, which JSON can express and JSON Schema cannot
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _reason(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_REASON or not REASON.fullmatch(value) or _SURROGATE.search(value):
        raise ValueError(f"must be a line of 1 to {MAX_REASON} printable characters")
    return value.strip()


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  # one class for all violations of a rule
    return value


def _duration(value: Any) -> float:
    try:
        seconds = parse_duration(float(value) if isinstance(value, Decimal) else value, "")
    except ConfigError as error:
        raise ValueError(f"must {error.rule}") from error
    if not 0 < seconds <= _MAX_DURATION:
        raise ValueError("must be a duration above 0 and up to 24h")
    return seconds


def _whole(high: int) -> Converter:
    def convert(text: str) -> int:
        if not _DIGITS.fullmatch(text) or int(text) > high:
            raise ValueError(f"must be a whole number from 0 to {high}")
        return int(text)

    return convert


_COMMAND = {"reason": Member(_reason, required=True), "host_only": Member(_flag, default=False)}
_TIMED_COMMAND = {**_COMMAND, "expires_in": Member(_duration)}
_NAME = {"name": Member(str, required=True)}
_EVENTS = {
    "since": Member(_whole(MAX_NUMBER), default=0),
    "limit": Member(_whole(MAX_EVENTS), default=MAX_EVENTS),
}


def read_name(request: Request) -> str:
    """Return the name of a breaker in the query of a request. Raises Problem."""
    name: str = read_query(request, _NAME)["name"]
    return name


def run_command(
    registry: Registry, action: str, name: str, request: Request, body: bytes, *, request_id: str, in_path: bool
) -> dict[str, Any]:
    """Run a command of an authorized operator. Return the state change. Raises Problem.

    Args:
        registry: The breakers.
        action: One of `ACTIONS`.
        name: Name of a breaker that any process has made.
        request: The request.
        body: Its body, or the first `MAX_BODY` + 1 bytes.
        request_id: Its id, for the log.
        in_path: True if the name is from a path, which proxies may have changed.
    """
    act, members = ACTIONS[action]
    options = read_object(request, body, members)
    author = request.headers.get("X-Operator") or ""
    author = author if _AUTHOR.fullmatch(author) else "api"
    control = _find_by_path(registry, name) if in_path else registry.control(name)
    if control is None:
        raise Problem(404, "unknown-breaker", f"there is no breaker {name[:128]!r}")
    if "expires_in" in options:
        options["duration"] = options.pop("expires_in")
    return act(control, author=f"{author}, request {request_id}", **options).as_dict()


def _find_by_path(registry: Registry, name: str) -> BreakerControl | None:
    """Return the breaker of that name, otherwise the only one whose name equals it with repeated slashes merged.

    A proxy below a path prefix decodes `https%3A%2F%2Fhost` and passes on `https:/host`.
    """
    found = registry.control(name)
    if found is None:
        like = [each for each in registry.ledger.names() if _merged(each) == _merged(name)]
        found = registry.control(like[0]) if len(like) == 1 else None
    return found


def _merged(name: str) -> str:
    return re.sub("/+", "/", name).strip("/")


#: the commands by their names in paths: the method and the members of the body
ACTIONS: dict[str, tuple[Callable[..., StateChange], dict[str, Member]]] = {
    "force-open": (BreakerControl.force_open, _TIMED_COMMAND),
    "disable": (BreakerControl.disable, _TIMED_COMMAND),
    "metrics-only": (BreakerControl.metrics_only, _TIMED_COMMAND),
    "reset": (BreakerControl.reset, _COMMAND),
}


def events(registry: Registry, request: Request) -> dict[str, Any]:
    """Return the latest state changes, oldest first. Raises Problem."""
    query = read_query(request, _EVENTS)
    found = registry.ledger.history(query["since"])
    return {"events": [each.as_log_entry() for each in found[len(found) - min(query["limit"], len(found)) :]]}
