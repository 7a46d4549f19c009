"""Parsing and validation of JSON bodies and query parameters."""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flask import request
from werkzeug.exceptions import ClientDisconnected

from .problem import Problem

#: bytes of a body
MAX_BODY = 64 * 1024
#: members and elements of a document: each costs a schema a hundred times as much as it costs the client
MAX_PARTS = 1000
_MAX_ERRORS = 20  # a hostile body must not produce a large response
_MAX_NAME = 64  # characters of a parameter's name that a response repeats

#: converts a value; raises ValueError with a rule such as "must be true or false"
Converter = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a JSON object. One whose default is None may be null."""

    convert: Converter
    required: bool = False
    default: Any = None


def read_object(members: Mapping[str, Member]) -> dict[str, Any]:
    """Read the body of the current request as a JSON object with these members and no others. Raises Problem."""
    document, odd = read_document()
    if not isinstance(document, dict):
        raise invalid_body([("", "must be an object")], odd)
    values, errors = {}, []
    for name, member in members.items():
        try:
            values[name] = _read_member(document, name, member)
        except ValueError as error:
            errors.append((pointer((name,)), str(error)))
    unknown = (name for name in document if name not in members)
    errors += [(pointer((name,)), "must not be present: no such field is known") for name in unknown]
    if errors or odd:
        raise invalid_body(errors, odd)
    return values


def read_query(members: Mapping[str, Member]) -> dict[str, Any]:
    """Read the query of the current request: each parameter at most once, and no others. Raises Problem."""
    check_query(members)
    values = {}
    for name, member in members.items():
        try:
            values[name] = _read_member(request.args, name, member)
        except ValueError as error:
            raise invalid_parameter("query", name, str(error)) from error
    return values


def check_query(names: Collection[str]) -> None:
    """Check that the query of the current request has only these parameters, each at most once. Raises Problem."""
    for name, values in request.args.lists():
        if name not in names:
            raise invalid_parameter("query", name, f"is none of {', '.join(sorted(names))}")
        if len(values) > 1:
            raise invalid_parameter("query", name, "must be given once")


def read_document() -> tuple[Any, list[str]]:
    """Parse the JSON body of the current request. Raises Problem.

    Return the document and its violations of JSON's number syntax. Fractions are Decimals. NaN and infinities are kept,
    so that a validation error can name their position; a document with such violations must not be accepted.
    """
    return _parse(_text())


def invalid_body(errors: Iterable[tuple[str, str]], odd: list[str]) -> Problem:
    """Return the Problem of a body: 400 for a violation of JSON, otherwise 422. Errors are (JSON pointer, rule)."""
    errors = list(errors)[:_MAX_ERRORS]
    if odd:
        return _malformed(odd[0], errors)
    where, rule = errors[0]
    return Problem(422, "invalid-body", f"{where or 'the body'} {rule}", errors=_listed(errors))


def invalid_parameter(where: str, name: str, rule: str) -> Problem:
    """Return the 422 of a parameter in `where` (`path`, `query` or `header`) that breaks a rule."""
    name = name[:_MAX_NAME]
    errors = [{"in": where, "name": name, "detail": rule}]
    return Problem(422, "invalid-parameter", f"{name} {rule}", errors=errors)


def pointer(path: Iterable[str | int]) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _read_member(given: Mapping[str, Any], name: str, member: Member) -> Any:
    if name not in given:
        if member.required:
            raise ValueError("must be present")
        return member.default
    if given[name] is None:
        if member.required or member.default is not None:
            raise ValueError("must not be null")
        return None
    return member.convert(given[name])


def _text() -> bytes:
    if request.mimetype != "application/json":
        raise Problem(415, "unsupported-media-type", "the body must be application/json")
    announced = request.content_length or 0
    # One more byte than is allowed: a chunked body is cut at the app's limit without an error.
    if announced > MAX_BODY or len(body := _receive()) > MAX_BODY:
        raise Problem(413, "request-entity-too-large", f"the body must have at most {MAX_BODY} bytes")
    if body.count(b",") >= MAX_PARTS:
        raise Problem(422, "invalid-body", f"the body must have at most {MAX_PARTS} members and elements")
    if len(body) < announced:
        raise _incomplete(f"{len(body)} of {announced} bytes arrived")
    return body


def _receive() -> bytes:
    limit = MAX_BODY + 1
    try:
        with suppress(AttributeError):  # before Flask 3.1, only the app has a limit
            request.max_content_length = limit
            return request.get_data(cache=False)
        body = b""
        while len(body) < limit and (part := request.stream.read(limit - len(body))):
            body += part
        return body
    except _server_errors() as error:
        raise _incomplete(f"{type(error).__name__} while it was read") from error


def _server_errors() -> tuple[type[Exception], ...]:
    """Return the errors of reading a body. gunicorn, which may not be installed, raises its own."""
    gunicorn: Any = sys.modules.get("gunicorn.http.errors")
    return (ClientDisconnected, gunicorn.ParseException) if gunicorn else (ClientDisconnected,)


def _parse(text: bytes) -> tuple[Any, list[str]]:
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


def _malformed(reason: str, errors: Iterable[tuple[str, str]] = ()) -> Problem:
    rule = f"must be JSON: {reason}"
    return Problem(400, "malformed-json", f"the body {rule}", errors=_listed(errors or [("", rule)]))


def _listed(errors: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"in": "body", "pointer": where, "detail": rule} for where, rule in errors]
