"""Path, query and header parameters of a request."""

from collections.abc import Mapping
from typing import Any

from flask import request
from marshmallow import ValidationError, missing
from marshmallow.fields import Field

from cb.integrations.flask.current import CURRENT
from cb.integrations.operations.request_input import check_query, invalid_parameter

from .validation_errors import violations

#: fields by the names of a view's arguments; a `data_key` is the name in requests
Fields = dict[str, Field[Any]]


def wire_name(name: str, field: Field[Any]) -> str:
    """Return the name of a field in requests."""
    return field.data_key or name


def read_path(fields: Fields, found: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of the variables of a path. Raises Problem."""
    return {name: _read("path", wire_name(name, fields[name]), fields[name], text) for name, text in found.items()}


def read_query(fields: Fields) -> dict[str, Any]:
    """Return the query of the current request: each field at most once, and no others. Raises Problem."""
    check_query(CURRENT, {wire_name(name, field) for name, field in fields.items()})
    return _read_all("query", fields, request.args)


def read_headers(fields: Fields) -> dict[str, Any]:
    """Return some headers of the current request. Raises Problem."""
    return _read_all("header", fields, request.headers)


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
