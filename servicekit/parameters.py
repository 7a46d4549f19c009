"""What a request says beside its body: in its path, its query and its headers."""

from collections.abc import Mapping
from typing import Any

from flask import request
from marshmallow import ValidationError, missing
from marshmallow.fields import Field

from .problems import Problem
from .validation_errors import violations

_LONGEST = 64  # characters of a name that an answer repeats

#: fields by the name that a view knows them by; a `data_key` is the name on the wire
Fields = dict[str, Field[Any]]


def wire_name(name: str, field: Field[Any]) -> str:
    """Return what a field is called in requests."""
    return field.data_key or name


def read_path(fields: Fields, found: Mapping[str, str]) -> dict[str, Any]:
    """Return what the variables of a path stand for. Raises Problem."""
    return {name: _read("path", wire_name(name, fields[name]), fields[name], text) for name, text in found.items()}


def read_query(fields: Fields) -> dict[str, Any]:
    """Return the query of the running request: each field once at most, and nothing else. Raises Problem."""
    names = {wire_name(name, field) for name, field in fields.items()}
    for name, values in request.args.lists():
        if name not in names:
            raise invalid_parameter("query", name, f"is none of {', '.join(sorted(names))}")
        if len(values) > 1:
            raise invalid_parameter("query", name, "must be given once")
    return _read_all("query", fields, request.args)


def read_headers(fields: Fields) -> dict[str, Any]:
    """Return some headers of the running request. Raises Problem."""
    return _read_all("header", fields, request.headers)


def invalid_parameter(where: str, name: str, rule: str) -> Problem:
    """Return the problem of a parameter, where it is (`path`, `query` or `header`), and the rule that it breaks."""
    name = name[:_LONGEST]
    errors = [{"in": where, "name": name, "detail": rule}]
    return Problem(422, "invalid-parameter", f"{name} {rule}", errors=errors)


def _read_all(where: str, fields: Fields, given: Any) -> dict[str, Any]:
    return {
        name: _read(where, wire := wire_name(name, field), field, given.get(wire, missing))
        for name, field in fields.items()
    }


def _read(where: str, name: str, field: Field[Any], value: Any) -> Any:
    try:
        return field.deserialize(value)
    except ValidationError as error:
        _, rule = next(violations(error.messages))
        raise invalid_parameter(where, name, rule) from error
