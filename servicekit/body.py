"""JSON bodies, read with suspicion."""

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from flask import request
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import ClientDisconnected

from .problems import Problem
from .validation_errors import pointer, violations

#: bytes
MAX_BODY = 64 * 1024
#: members and elements of a document: each costs a schema a hundred times what it costs the client
MAX_PARTS = 1000
_MAX_ERRORS = 20  # an answer must not grow with what a hostile body makes of it


def read_json(schema: Schema) -> Any:
    """Return the body of the running request as a schema loads it; its fractions are Decimals. Raises Problem."""
    document, odd = _parse(_text())
    try:
        loaded = schema.load(document)
    except ValidationError as error:
        found = [(pointer(where), rule) for where, rule in violations(error.messages)][:_MAX_ERRORS]
        if odd:
            raise _malformed(odd[0], found) from error
        where, rule = found[0]
        raise Problem(422, "invalid-body", f"{where or 'the body'} {rule}", errors=_errors(found)) from error
    if odd:
        raise _malformed(odd[0])
    return loaded


def _text() -> bytes:
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", "the body must be application/json")
    announced = request.content_length or 0
    request.max_content_length = MAX_BODY + 1
    # One more than is allowed: a chunked body is cut at the app's limit without a word.
    if announced > MAX_BODY or len(body := _receive()) > MAX_BODY:
        raise Problem(413, "request-entity-too-large", f"the body must have at most {MAX_BODY} bytes")
    if body.count(b",") >= MAX_PARTS:
        raise Problem(422, "invalid-body", f"the body must have at most {MAX_PARTS} members and elements")
    if len(body) < announced:
        raise _incomplete(f"{len(body)} of {announced} bytes arrived")
    return body


def _receive() -> bytes:
    try:
        return request.get_data(cache=False)
    except _server_errors() as error:
        raise _incomplete(f"{type(error).__name__} while it was read") from error


def _server_errors() -> tuple[type[Exception], ...]:
    """Return what reading a body may raise. gunicorn, which some systems do not have, lets its own errors through."""
    try:
        from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        return (ClientDisconnected,)
    return (ClientDisconnected, ParseException)


def _parse(text: bytes) -> tuple[Any, list[str]]:
    """Return a document, and what is wrong with its numbers: NaN stays, so that the schema can say where it is."""
    odd: list[str] = []

    def note(constant: str) -> float:
        odd.append(f"{constant} is not a JSON number")
        return float(constant)

    try:
        document = json.loads(
            text.decode(), parse_float=Decimal, parse_constant=note, object_pairs_hook=_without_repetition
        )
    except RecursionError as error:
        raise _malformed("it is nested too deeply") from error
    except ArithmeticError as error:
        raise _malformed("a number is out of all bounds") from error
    except ValueError as error:
        raise _malformed(str(error)) from error
    return document, odd


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object names a member twice")
    return members


def _incomplete(reason: str) -> Problem:
    return Problem(400, "malformed-body", f"the body must arrive as the headers announce it: {reason}")


def _malformed(reason: str, found: Iterable[tuple[str, str]] = ()) -> Problem:
    rule = f"must be JSON: {reason}"
    return Problem(400, "malformed-json", f"the body {rule}", errors=_errors(found or [("", rule)]))


def _errors(found: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"in": "body", "pointer": where, "detail": rule} for where, rule in found]
