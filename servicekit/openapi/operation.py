"""Operations: views with a specification of their requests and responses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from inspect import getdoc
from typing import Any

from flask import Response
from marshmallow import Schema

from servicekit.access import require_operator
from servicekit.body import read_json
from servicekit.parameters import Fields, read_headers, read_path, read_query

View = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Link:
    """A link from a response to another operation, with parameters as runtime expressions of OpenAPI."""

    #: operation id
    operation: str
    #: parameters by name
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """The response of an operation with one status."""

    #: condition of this response
    description: str
    #: schema of a JSON body; None for other bodies, which the view returns as a Response
    schema: Schema | None = None
    #: media types
    types: tuple[str, ...] = ("application/json",)
    #: descriptions of this response's own headers, which are text
    headers: Mapping[str, str] = field(default_factory=dict)
    #: example of the body
    example: Any = None
    #: links by name
    links: Mapping[str, Link] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSpec:
    """The specification of an operation."""

    #: operation id, also in generated clients: do not change it
    id: str
    tag: str
    #: summary in the first line, then the description; by default the docstring of the view
    about: str = ""
    #: responses by status; a value without a status has the first
    responses: Mapping[int, ResponseSpec]
    #: further problems by status; those of request validation are added automatically
    problems: Mapping[int, str] = field(default_factory=dict)
    #: required token or key, if configured: `operators`, which the operation itself checks, or `services`, `users` or
    #: `all-users` (operators, if users have keys), which a hook of the blueprint checks
    access: str = ""
    path: Fields = field(default_factory=dict)
    #: query parameters; None if the query is not validated
    query: Fields | None = None
    headers: Fields = field(default_factory=dict)
    body: Schema | None = None
    #: example of the request body
    example: Any = None


class Operation:
    """A view with its specification: it receives validated input, and its result is serialized."""

    __name__: str

    def __init__(self, view: View, terms: OperationSpec) -> None:
        update_wrapper(self, view)
        self.terms = terms
        self.about = terms.about or getdoc(view) or ""
        self._view = view

    def __call__(self, **path: str) -> Any:
        """Handle the current request. Raises Problem, and the errors of the view."""
        return self._dump(self._view(**self._read(path)))

    def _read(self, path: Mapping[str, str]) -> dict[str, Any]:
        terms = self.terms
        if terms.access == "operators":
            require_operator()
        arguments = read_path(terms.path, path) | read_headers(terms.headers)
        if terms.query is not None:
            arguments |= read_query(terms.query)
        if terms.body is not None:
            arguments["body"] = read_json(terms.body)
        return arguments

    def _dump(self, returned: Any) -> Any:
        if isinstance(returned, Response):
            return returned
        value, status, *headers = (
            returned if isinstance(returned, tuple) else (returned, next(iter(self.terms.responses)))
        )
        schema = self.terms.responses[status].schema
        assert schema is not None, f"{self.terms.id} has no schema for {status}"
        return schema.dump(value), status, *headers


def operation(id: str, **terms: Any) -> Callable[[View], Operation]:  # noqa: A002  # its name in OpenAPI
    """Document a view, validate its input and serialize its output. The keywords are the fields of `OperationSpec`.

    The view receives path, query and header parameters by name, and `body`. It returns a value for the schema of its
    first response, or `(value, status)` or `(value, status, headers)`, or a finished Response.
    """
    agreed = OperationSpec(id=id, **terms)
    return lambda view: Operation(view, agreed)
