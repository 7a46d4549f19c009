"""What an operator does to the breakers of a service: `/api/v1/circuit-breaker/{name}/{action}`, and what happened."""

import re
from collections.abc import Callable
from typing import Any

from flask import Blueprint
from marshmallow import Schema, ValidationError
from marshmallow.fields import String

from cb.control import BreakerControl
from cb.document import outcome, record
from cb.events import StateChange
from cb.states import State
from servicekit.breaker_schemas import ChangeSchema, EventsSchema
from servicekit.correlation import request_id
from servicekit.fields import Digits, Duration, Flag, StrictField
from servicekit.openapi import ResponseSpec, operation
from servicekit.problems import Problem

from .extension_state import circuit_breakers

bp = Blueprint("operator", __name__, url_prefix="/api/v1/circuit-breaker")

_OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_LIMIT = 200  # as many as the log holds
# What does not show, or shows a line otherwise than it is: controls, spaces but one, directions.
_UNSEEN = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"
    r"\ufff9-\uffff"
)
#: halves of characters, which JSON can say and JSON Schema cannot
_HALF = re.compile(r"[\ud800-\udfff]")
_LINE = re.compile(f" *[^ {_UNSEEN}][^{_UNSEEN}]*")


class _Reason(StrictField[str]):
    """A line of text, for people."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > _LIMIT or not _LINE.fullmatch(value) or _HALF.search(value):
            raise ValidationError(f"must be a line of 1 to {_LIMIT} printable characters")
        return value.strip()

    def json_schema(self, *, answered: bool) -> dict[str, Any]:  # noqa: ARG002  # the same both ways
        return {"type": "string", "pattern": f"^{_LINE.pattern}$", "minLength": 1, "maxLength": _LIMIT}


class _Author(String):
    """Who an operator is, as they say."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        return value if _OPERATOR.fullmatch(value) else "api"


class CommandSchema(Schema):
    reason = _Reason(required=True, metadata={"description": "Why, for the log.", "examples": ["the bank migrates"]})
    host_only = Flag(load_default=False, metadata={"description": "Whether the rest of the fleet is left as it is."})


class HoldSchema(CommandSchema):
    expires_in = Duration(
        load_default=None,
        attribute="seconds",
        metadata={"description": "A number of seconds, or such as 30s, 500ms, 2m, 1h. Then the circuit is reset."},
    )


_NAME = {"name": String(required=True, metadata={"minLength": 1, "examples": ["market-data"]})}
_ANY_NAME = "For names with slashes, which proxies merge or decode in a path: a query goes through them unchanged."
_HEADERS = {"author": _Author(data_key="X-Operator", load_default="api", metadata={"description": "Who, for the log."})}
_BUSY = {503: "`ledger-busy`: the state that all workers share is locked by a process that does not go on."}
_GONE = _BUSY | {404: "There is nothing of that name."}


def _find(name: str) -> BreakerControl | None:
    """Return a breaker, in whichever worker it was made; one that nobody has made stays so."""
    return circuit_breakers().registry.steer(name)


def _find_by_path(name: str) -> BreakerControl | None:
    """Return the breaker of that name, or else the only one whose name is the same with its slashes merged.

    A proxy that passes a path on below another one has decoded `https%3A%2F%2Fhost` and made `https:/host` of it.
    """
    found = _find(name)
    if found is None:
        like = [each for each in circuit_breakers().registry.ledger.names() if _merged(each) == _merged(name)]
        found = _find(like[0]) if len(like) == 1 else None
    return found


def _merged(name: str) -> str:
    return re.sub("/+", "/", name).strip("/")


def _hold(action: str, state: State, about: str) -> None:
    schema, example = HoldSchema(), {"reason": "the bank migrates", "expires_in": "10m"}
    _serve(action, about, lambda breaker, **said: breaker.hold(state, **said), schema, example)


def _serve(action: str, about: str, act: Callable[..., StateChange], body: Schema, example: dict[str, str]) -> None:
    """Serve an action on a breaker that the path names, and on one that the query names."""

    def serve(rule: str, find: Callable[[str], BreakerControl | None], **more: Any) -> None:
        @bp.post(rule, endpoint=more["id"])
        @operation(**terms, **more)
        def command(name: str, author: str, body: dict[str, Any]) -> Any:
            found = find(name)
            if found is None:
                raise Problem(404, "unknown-breaker", f"there is no breaker {name[:128]!r}")
            return outcome(act(found, author=f"{author}, request {request_id()}", **body))

    verb, about = action.replace("-o", "O"), f"{about}, in all workers of the host at once."
    terms: dict[str, Any] = {
        "tag": "circuit breakers",
        "access": "operators",
        "headers": _HEADERS,
        "body": body,
        "example": example,
        "responses": {200: ResponseSpec("What that has changed.", ChangeSchema())},
    }
    serve(f"/<path:name>/{action}", _find_by_path, id=f"{verb}Breaker", about=about, path=_NAME, problems=_BUSY)
    about += f"\n\n{_ANY_NAME}"
    serve(f"/{action}", _find, id=f"{verb}NamedBreaker", about=about, query=_NAME, problems=_GONE)


_hold("force-open", State.FORCED_OPEN, "Refuse all calls")
_hold("disable", State.DISABLED, "Let all calls through and count none")
_hold("metrics-only", State.METRICS_ONLY, "Let all calls through and count them")
for _action in ("close", "reset"):
    _serve(
        _action, "Close a circuit and count anew", BreakerControl.reset, CommandSchema(), {"reason": "the bank is back"}
    )


@bp.get("/events")
@operation(
    "listEvents",
    tag="circuit breakers",
    access="operators",
    query={
        "since": Digits(0, 2**62, load_default=0, metadata={"description": "Those after this number."}),
        "limit": Digits(0, _LIMIT, load_default=_LIMIT, metadata={"description": "At most so many."}),
    },
    responses={200: ResponseSpec("Changes of state.", EventsSchema())},
)
def events(since: int, limit: int) -> Any:
    """List the latest changes of state, oldest first."""
    found = circuit_breakers().registry.ledger.history(since)
    return {"events": [record(each) for each in found[len(found) - min(limit, len(found)) :]]}
