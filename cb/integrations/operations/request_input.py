"""Parsing and validation of JSON bodies and query parameters."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .problem import Problem
from .request import Request

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


def read_object(request: Request, body: bytes, members: Mapping[str, Member]) -> dict[str, Any]:
    """Read the body of a request as a JSON object with these members and no others. Raises Problem."""
    document, odd = parse_document(request, body)
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


def read_query(request: Request, members: Mapping[str, Member]) -> dict[str, Any]:
    """Read the query of a request: each parameter at most once, and no others. Raises Problem."""
    check_query(request, members)
    given, values = dict(request.query), {}
    for name, member in members.items():
        try:
            values[name] = _read_member(given, name, member)
        except ValueError as error:
            raise invalid_parameter("query", name, str(error)) from error
    return values


def check_query(request: Request, names: Collection[str]) -> None:
    """Check that the query of a request has only these parameters, each at most once. Raises Problem."""
    for name, times in Counter(name for name, _ in request.query).items():
        if name not in names:
            raise invalid_parameter("query", name, f"is none of {', '.join(sorted(names))}")
        if times > 1:
            raise invalid_parameter("query", name, "must be given once")


def check_body(request: Request) -> None:
    """Check the headers that announce a body of JSON, before it is received. Raises Problem."""
    media_type = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "unsupported-media-type", "the body must be application/json")
    if _announced(request) > MAX_BODY:
        raise _too_large()


def parse_document(request: Request, body: bytes) -> tuple[Any, list[str]]:
    """Parse the JSON body of a request, or its first `MAX_BODY` + 1 bytes. Raises Problem.

    Return the document and its violations of JSON's number syntax. Fractions are Decimals. NaN and infinities are kept,
    so that a validation error can name their position; a document with such violations must not be accepted.
    """
    if len(body) > MAX_BODY:
        raise _too_large()
    if body.count(b",") >= MAX_PARTS:
        raise Problem(422, "invalid-body", f"the body must have at most {MAX_PARTS} members and elements")
    announced = _announced(request)
    if len(body) < announced:
        raise incomplete(f"{len(body)} of {announced} bytes arrived")
    return _parse(body)


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


def _announced(request: Request) -> int:
    """Return the number of bytes of the body, 0 if it is sent in chunks."""
    length = request.headers.get("Content-Length") or ""
    chunked = (request.headers.get("Transfer-Encoding") or "").strip().lower() == "chunked"
    return int(length) if length.isdecimal() and not chunked else 0


def _too_large() -> Problem:
    return Problem(413, "request-entity-too-large", f"the body must have at most {MAX_BODY} bytes")


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


def incomplete(reason: str) -> Problem:
    """Return the 400 of a body that did not arrive completely."""
    return Problem(400, "malformed-body", f"the body must arrive as the headers announce it: {reason}")


def _malformed(reason: str, errors: Iterable[tuple[str, str]] = ()) -> Problem:
    rule = f"must be JSON: {reason}"
    return Problem(400, "malformed-json", f"the body {rule}", errors=_listed(errors or [("", rule)]))


def _listed(errors: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"in": "body", "pointer": where, "detail": rule} for where, rule in errors]
