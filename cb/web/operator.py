"""What an operator does to the breakers of a service: `/api/v1/circuit-breaker/{name}/{action}`, and what happened."""

import re
from typing import Any

from flask import Blueprint, request
from marshmallow import Schema, ValidationError

from cb.document import outcome, record
from cb.layout import State
from cb.steering import Steering

from .access import require_operator
from .body import read_json
from .correlation import request_id
from .extension import circuit_breakers
from .fields import Checked, Duration, Flag
from .parameters import read_whole
from .problems import Problem

bp = Blueprint("operator", __name__, url_prefix="/api/v1/circuit-breaker")
bp.before_request(require_operator)

_HOLD = {"force-open": State.FORCED_OPEN, "disable": State.DISABLED, "metrics-only": State.METRICS_ONLY}
_RESET = ("close", "reset")
_OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_LIMIT = 200  # as many as the log holds


class _Reason(Checked[str]):
    """A line of text, for people."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _LIMIT:
            raise ValidationError(f"must be a line of 1 to {_LIMIT} printable characters")
        return value.strip()


class _Command(Schema):
    reason = _Reason(required=True)
    host_only = Flag(load_default=False)


class _Hold(_Command):
    expires_in = Duration(load_default=None, attribute="seconds")


@bp.post(f"/<path:name>/<any{(*_HOLD, *_RESET)}:action>")
def command(name: str, action: str) -> Any:
    """Hold or reset a circuit, in all workers of the host at once."""
    breaker = _find(name)
    asked = read_json(_Hold() if action in _HOLD else _Command())
    author = f"{_operator()}, request {request_id()}"
    if action in _HOLD:
        return outcome(breaker.hold(_HOLD[action], author=author, **asked))
    return outcome(breaker.reset(author=author, **asked))


@bp.get("/events")
def events() -> Any:
    """Return the latest transitions, oldest first: those after number `since`, at most `limit`."""
    since, limit = read_whole("since", 0, 0, 2**62), read_whole("limit", _LIMIT, 0, _LIMIT)
    found = circuit_breakers().registry.ledger.history(since)
    return {"events": [record(each) for each in found[len(found) - min(limit, len(found)) :]]}


def _find(name: str) -> Steering:
    """Return a breaker, in whichever worker it was made; one that nobody has made stays so. Raises Problem."""
    found = circuit_breakers().registry.steer(name)
    if found is None:
        raise Problem(404, "unknown-breaker", f"there is no breaker {name[:128]!r}")
    return found


def _operator() -> str:
    given = request.headers.get("X-Operator", "")
    return given if _OPERATOR.fullmatch(given) else "api"
