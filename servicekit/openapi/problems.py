"""Problem responses of operations in the OpenAPI document."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from marshmallow import fields

from servicekit.fields import StrictField
from servicekit.response_schemas import ResponseSchema

from .operation import OperationSpec

_READING = {
    413: "The body has more than 64 KiB.",
    415: "The body is not `application/json`.",
    422: "The request is invalid; `errors` has the positions and the violated rules.",
}
_UNREADABLE = "Or the body is not JSON, or is incomplete."
#: problems of every operation
_ANY = {
    400: "`unknown-host`: the `Host` of the request is not a name of the service.",
    429: "`rate-limited`: the client has exceeded its rate limit.",
}
#: problems with the same meaning in all operations
COMMON = {
    **_ANY,
    401: "The required token or key is missing or wrong; without a configured token, only this host has access.",
    404: "There is nothing of that name.",
    414: "The URL is too long for the server.",
    **_READING,
}
#: statuses with `Retry-After`
_WAITING = (429, 503)


class ErrorSchema(ResponseSchema):
    """One violation in a request."""

    where = fields.String(required=True, data_key="in", metadata={"enum": ["body", "path", "query", "header"]})
    pointer = fields.String(metadata={"description": "Position in the body, as a JSON pointer (RFC 6901)."})
    name = fields.String(metadata={"description": "Name of the parameter."})
    detail = fields.String(required=True, metadata={"description": "The violated rule."})


class ProblemSchema(ResponseSchema):
    """An error, as in RFC 9457."""

    type = fields.String(required=True, metadata={"examples": ["/problems/insufficient-funds"]})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "One sentence for people."})
    code = fields.String(required=True, metadata={"description": "Machine-readable code."})
    request_id = fields.String(required=True)
    errors = fields.List(fields.Nested(ErrorSchema))
    breaker = fields.String(metadata={"description": "Name of the breaker that rejected a call."})
    dependency = fields.String(metadata={"description": "Name of the failing dependency."})
    retry_after_seconds = fields.Integer()
    limit = fields.Raw(metadata={"type": ["string", "integer"], "description": "The exceeded limit."})
    value = fields.String(metadata={"description": "The value that exceeds the limit."})
    symbol = fields.String()
    trade_id = fields.String(data_key="tradeId", metadata={"description": "The trade that was not booked."})
    trade_status = fields.String(data_key="tradeStatus", metadata={"enum": ["REJECTED", "CANCELLED", "VOID"]})


def problem_responses(terms: OperationSpec, refuses: bool) -> dict[int, str]:
    """Return the problems of an operation by status, including those of request validation.

    `refuses` is True if a token or key is required.
    """
    found = dict(_ANY)
    if refuses:
        found[401] = COMMON[401]
    if terms.path:
        found[404] = COMMON[404]
    if terms.query:
        found[414] = COMMON[414]
    if any(isinstance(each, StrictField) for each in (terms.path | terms.headers | (terms.query or {})).values()):
        found[422] = _READING[422]
    if terms.body is not None:
        found |= _READING
        found[400] += f" {_UNREADABLE}"
    own = {status: f"{_ANY[status]} {about}" if status in _ANY else about for status, about in terms.problems.items()}
    return found | own


def response(status: int, description: str, problem: Any, headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return a problem as a response object of OpenAPI."""
    shown = dict(headers)
    if status in _WAITING:
        shown["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status == HTTPStatus.UNAUTHORIZED:
        shown["WWW-Authenticate"] = {"required": True, "schema": {"type": "string", "const": "Bearer"}}
    return {"description": description, "headers": shown, "content": {"application/problem+json": {"schema": problem}}}
